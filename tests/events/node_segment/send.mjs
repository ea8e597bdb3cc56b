// Sends one event of each call with Segment's library for Node, as an application would, and prints what failed.
//
//   node send.mjs ENDPOINT WRITE_KEY USER
import { Analytics } from "@segment/analytics-node";

const [host, writeKey, userId] = process.argv.slice(2);
const analytics = new Analytics({ writeKey, host, maxRetries: 0 });
const failed = [];
analytics.on("error", (error) => failed.push(String(error.reason ?? error.code)));

analytics.track({ userId, event: "Bought", properties: { price: 12.5 } });
analytics.identify({ userId, traits: { email: "a@example.com" } });
analytics.page({ userId, category: "docs", name: "Home", properties: { url: "https://shop.example/" } });
analytics.screen({ userId, category: "app", name: "Start" });
analytics.group({ userId, groupId: "g-1", traits: { seats: 5 } });
analytics.alias({ userId, previousId: "before" });
await analytics.closeAndFlush();
console.log(JSON.stringify(failed));
