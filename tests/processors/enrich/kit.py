"""Rows through `unify` and `enrich`, and small geo files."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from colonnade.native import Batch, decode
from colonnade.pipeline.component import BatchContext, ComponentId
from colonnade.processors.enrich import factory
from colonnade.processors.enrich.enrich import Enrich
from colonnade.processors.unify import Config as UnifyConfig
from colonnade.processors.unify import Unify
from tests.pipeline.kit import FakeHost
from tests.processors.test_unify import NOW_NS, span, traces

IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.1 "
    "Mobile/15E148 Safari/604.1"
)
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36"
)
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


def context_of(host: FakeHost | None = None) -> BatchContext:
    return BatchContext("traces", NOW_NS, b"i" * 16, host or FakeHost("unify", kind="processor"))


def completed(*attributes: dict[str, Any]) -> Batch:
    """One row per dictionary of attributes, after `unify`."""
    batch, refused = decode("traces", [traces(*(span(one) for one in attributes))], json=True)
    assert not refused
    made = Unify(ComponentId("unify"), UnifyConfig()).process(batch, context_of())
    assert made is not None
    return made


@asynccontextmanager
async def running(host: FakeHost | None = None, **section: Any) -> AsyncGenerator[Enrich]:
    processor = factory.create(ComponentId("enrich"), factory.config.model_validate(section))
    assert isinstance(processor, Enrich)
    await processor.start(host or FakeHost("enrich", kind="processor"))
    try:
        yield processor
    finally:
        await processor.shutdown()


def rows_of(processor: Enrich, batch: Batch) -> list[dict[str, Any]]:
    """What each row has afterwards: absent values left out, `context` and its `$enrich` read."""
    enriched = processor.process(batch, context_of())
    assert enriched is not None
    told: list[dict[str, Any]] = []
    for row in pa.Table.from_batches([pa.record_batch(enriched)]).to_pylist():
        kept = {name: value for name, value in row.items() if value not in ("", None)}
        kept["context"] = json.loads(kept.get("context", "{}"))
        kept["$enrich"] = kept["context"].get("$enrich", {})
        kept["attributes"] = {key: value["text"] for key, value in kept.get("attributes", [])}
        told.append(kept)
    return told


async def enriched(*attributes: dict[str, Any], **section: Any) -> list[dict[str, Any]]:
    async with running(**section) as processor:
        return rows_of(processor, completed(*attributes))


def geo_file(path: Path, records: dict[str, dict[str, Any]], version: int = 4, kind: str = "Test-City") -> Path:
    writer = MMDBWriter(version, kind, ipv4_compatible=version == 6)
    for network, record in records.items():
        writer.insert_network(IPSet([network]), record)
    writer.to_db_file(str(path))
    return path


BERLIN = {
    "country": {"iso_code": "DE", "names": {"en": "Germany", "de": "Deutschland"}},
    "subdivisions": [{"iso_code": "BE", "names": {"en": "Land Berlin"}}],
    "city": {"names": {"de": "Berlin", "en": "Berlin"}},
    "location": {"latitude": 52.52, "longitude": 13.405, "time_zone": "Europe/Berlin"},
    "postal": {"code": "10115"},
}
