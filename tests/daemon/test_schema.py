"""The JSON Schema for editors has every installed component, every key, and takes older spellings."""

from __future__ import annotations

import re

from colonnade.daemon.configuration.schema import json_schema
from tests.daemon.kit import FeedConfig, components


def test_schema_has_every_component_and_key() -> None:
    schema = json_schema(components())
    feed = schema["$defs"]["receiver.feed"]
    assert set(feed["properties"]) == set(FeedConfig.model_fields)
    assert all("description" in field for field in feed["properties"].values())
    patterns = schema["properties"]["exporters"]["patternProperties"]
    for spelling in ("store", "store/x", "shop", "wide"):
        assert any(re.search(pattern, spelling) for pattern in patterns)
    assert not any(re.search(pattern, "stores") for pattern in patterns)


def test_every_reference_leads_somewhere() -> None:
    schema = json_schema(components())
    found: list[str] = re.findall(r"'\$ref': '#/\$defs/([^']+)'", str(schema))
    assert found
    assert set(found) <= set(schema["$defs"])
