"""Sends one event of each call with the Segment library that is installed: ENDPOINT WRITE_KEY USER.

Prints the library's version and what failed, as JSON.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from segment.analytics.client import Client
from segment.analytics.version import VERSION

host, key, user = sys.argv[1:]
failed: list[str] = []


def told(error: Exception, events: Any) -> None:
    failed.append(repr(error))


client: Any = Client(key, host=host, max_retries=0, on_error=told)
client.track(user, "Bought", {"price": 12.5})
client.identify(user, {"email": "a@example.com"})
client.page(user, "docs", "Home", {"url": "https://shop.example/"})
client.screen(user, "app", "Start")
client.group(user, "g-1", {"seats": 5})
client.alias("before", user)
client.flush()
client.join()
print(json.dumps({"version": VERSION, "failed": failed}))
