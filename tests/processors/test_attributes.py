"""The processors `attributes` and `resource`, against the same actions on official messages."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pydantic import ValidationError

from colonnade import native
from colonnade.pipeline.component import BatchContext, ComponentId
from colonnade.processors import attributes, resource
from tests.differential.canonical import canonical, difference
from tests.differential.messages import REQUESTS, seeded
from tests.pipeline.kit import FakeHost

from .attribute_model import any_of, change, random_actions, records, resources

# Columns that attributes feed, but for those that are fed from elsewhere where no attribute does.
_TABLE = Path(__file__).parents[2] / "colonnade/unified_schema/otel_attributes.csv"
FED = sorted(
    {row["column"] for row in csv.DictReader(_TABLE.open()) if row["transform"] != "special"}
    - {"msg_operation", "error_message"}
)


def run(target: str, actions: list[dict[str, Any]], batch: native.Batch, **more: Any) -> native.Batch:
    """The batch as the processor leaves it."""
    if target == "record":
        section = attributes.Config.model_validate({"actions": actions, **more})
        processor: Any = attributes.Attributes(ComponentId("attributes"), section)
    else:
        processor = resource.Resource(ComponentId("resource"), resource.Config.model_validate({"attributes": actions}))
    ctx = BatchContext("traces", 0, b"i" * 16, FakeHost("attributes", kind="processor"))
    changed = processor.process(batch, ctx)
    assert changed is not None
    assert not ctx.dropped
    return changed


def decoded(signal: str, message: Any) -> native.Batch:
    batch, refused = native.decode(signal, [message.SerializeToString()], keep_payload=True)
    assert not refused
    return batch


def encoded(signal: str, batch: native.Batch) -> Any:
    whole = REQUESTS[signal]()
    for body in native.encode_otlp(signal, [batch]):
        whole.MergeFromString(body)
    return whole


def fed_columns(batch: native.Batch) -> list[str]:
    """What columns that attributes feed say, row by row; rows have no order, since the encoder groups them."""
    columns = [name for name in [*FED, "event_source"] if name in batch.column_names]
    rows = pa.record_batch(batch).select(columns).to_pylist()
    return sorted(repr({name: value for name, value in row.items() if value not in (None, "")}) for row in rows)


@pytest.mark.parametrize("target", ["record", "resource"])
@pytest.mark.parametrize("signal", REQUESTS)
def test_actions_do_what_they_do_to_a_plain_dictionary(signal: str, target: str):
    changes = 0
    for seed in range(300):
        message = seeded(signal, seed)
        targets = list(records(message) if target == "record" else resources(message))
        actions = random_actions(seed, message, targets)
        if not actions:
            continue
        batch = decoded(signal, message)
        for one in targets:
            change(one, actions)
        result = run(target, actions, batch)
        changes += result is not batch
        told = encoded(signal, result)
        assert not difference(canonical(message), canonical(told)), (seed, actions)
        assert result.payloads is None or result is batch
        # What columns say is what they would say had the record been decoded with its new attributes.
        assert fed_columns(result) == fed_columns(decoded(signal, told)), (seed, actions)
    assert changes > 100


# --- single cases


def spans(*names: str, **attributes: Any) -> native.Batch:
    """One span per name, all with the same attributes, of the service `shop`."""
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.add(key="service.name").value.string_value = "shop"
    group.resource.attributes.add(key="cluster").value.string_value = "west"
    scope = group.scope_spans.add()
    scope.scope.name, scope.scope.version = "library", "1.2"
    for number, name in enumerate(names, 1):
        span = scope.spans.add(name=name, kind=2, trace_id=b"t" * 16, span_id=number.to_bytes(8, "big"))
        for key, value in attributes.items():
            span.attributes.add(key=key.replace("__", ".")).value.CopyFrom(any_of(value))
    return decoded("traces", request)


def attributes_of(batch: native.Batch) -> list[dict[str, Any]]:
    told = encoded("traces", batch)
    found = [span for group in told.resource_spans for scope in group.scope_spans for span in scope.spans]
    found.sort(key=lambda span: span.span_id)
    return [{p.key: getattr(p.value, p.value.WhichOneof("value")) for p in span.attributes} for span in found]


MATCHES: list[tuple[dict[str, Any], list[str]]] = [
    ({"match_type": "strict", "span_names": ["a", "c"]}, ["a", "c"]),
    ({"match_type": "regexp", "span_names": ["^[ab]$"]}, ["a", "b"]),
    ({"match_type": "strict", "services": ["shop"]}, ["a", "b", "c"]),
    ({"match_type": "strict", "services": ["sho"]}, []),
    ({"match_type": "regexp", "services": ["sho"]}, ["a", "b", "c"]),
    ({"match_type": "strict", "services": ["shop"], "span_names": ["b"]}, ["b"]),
    ({"match_type": "strict", "span_kinds": ["SPAN_KIND_SERVER"]}, ["a", "b", "c"]),
    ({"match_type": "strict", "span_kinds": ["SPAN_KIND_CLIENT"]}, []),
    ({"match_type": "strict", "attributes": [{"key": "n", "value": 5}]}, ["a", "b", "c"]),
    ({"match_type": "strict", "attributes": [{"key": "n", "value": "5"}]}, []),
    ({"match_type": "regexp", "attributes": [{"key": "n", "value": "^5$"}]}, ["a", "b", "c"]),
    ({"match_type": "strict", "attributes": [{"key": "n"}, {"key": "m"}]}, []),
    ({"match_type": "strict", "attributes": [{"key": "http.request.method", "value": "GET"}]}, ["a", "b", "c"]),
    ({"match_type": "strict", "resources": [{"key": "cluster", "value": "west"}]}, ["a", "b", "c"]),
    ({"match_type": "strict", "resources": [{"key": "service.name", "value": "shop"}]}, ["a", "b", "c"]),
    ({"match_type": "strict", "resources": [{"key": "n"}]}, []),
    ({"match_type": "strict", "libraries": [{"name": "library"}]}, ["a", "b", "c"]),
    ({"match_type": "strict", "libraries": [{"name": "library", "version": "1.3"}]}, []),
    ({"match_type": "regexp", "libraries": [{"name": "lib", "version": r"^1\."}]}, ["a", "b", "c"]),
]


@pytest.mark.parametrize(("match", "meant"), MATCHES)
@pytest.mark.parametrize("role", ["include", "exclude"])
def test_only_rows_that_are_meant_change(match: dict[str, Any], meant: list[str], role: str):
    batch = spans("a", "b", "c", n=5, http__request__method="GET")
    result = run("record", [{"action": "insert", "key": "new", "value": 1}], batch, **{role: match})
    changed = [name for name, found in zip("abc", attributes_of(result), strict=True) if "new" in found]
    assert changed == (meant if role == "include" else [name for name in "abc" if name not in meant])
    assert (result is batch) is (not changed)


def test_log_records_are_meant_by_body_and_severity():
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    for number, text, body in ((9, "INFO", "started"), (17, "ERROR", "failed"), (0, "", "silent")):
        record = scope.log_records.add(severity_number=number, severity_text=text, time_unix_nano=1)
        record.body.string_value = body
    batch = decoded("logs", request)
    cases = [
        ({"log_bodies": ["^s"]}, ["started", "silent"]),
        ({"log_severity_texts": ["ERR"]}, ["failed"]),
        ({"log_severity_number": {"min": 10}}, ["failed"]),
        ({"log_severity_number": {"min": 10, "match_undefined": True}}, ["failed", "silent"]),
    ]
    for match, meant in cases:
        result = run(
            "record",
            [{"action": "insert", "key": "new", "value": True}],
            batch,
            include={"match_type": "regexp", **match},
        )
        told = encoded("logs", result).resource_logs[0].scope_logs[0].log_records
        assert [r.body.string_value for r in told if r.attributes] == meant, match


def test_a_header_of_the_request_becomes_an_attribute():
    from tests.listener.kit import export_request, serving

    batches: list[native.Batch] = []

    def handle(group: native.RequestGroup) -> None:
        batches.append(group.decode())

    headers = {"Content-Type": "application/x-protobuf", "X-Team": "checkout"}
    with serving(handle, route={"include_metadata": True}) as at:
        at.post(export_request(), headers)
    (batch,) = batches
    action = {"action": "upsert", "key": "team", "from_context": "metadata.X-Team"}
    missing = {"action": "upsert", "key": "none", "from_context": "metadata.X-None", "default_value": 7}
    assert attributes_of(run("record", [action, missing], batch))[0] == {"team": "checkout", "none": 7}
    told = encoded("traces", run("resource", [action], batch))
    assert told.resource_spans[0].resource.attributes[0].value.string_value == "checkout"


def test_what_is_not_changed_keeps_the_requests_bytes():
    batch = spans("a", user__id="u")
    assert run("record", [{"action": "update", "key": "none", "value": 1}], batch) is batch
    assert run("record", [{"action": "upsert", "key": "user.id", "value": "u"}], batch) is batch
    assert run("resource", [{"action": "delete", "key": "none"}], batch) is batch
    assert run("record", [{"action": "delete", "key": "user.id"}], batch).payloads is None


def test_a_deleted_value_leaves_no_trace_in_a_column():
    batch = spans("a", enduser__id="mail@example.com", url__full="https://shop.example/a?mail=mail@example.com")
    completed, _ = native.Unify().complete(batch, 1_800_000_000_000_000_000, b"i" * 16)
    for before in (batch, completed):
        assert "mail@example.com" in repr(pa.record_batch(before).to_pylist())
        actions = [{"action": "delete", "key": "enduser.id"}, {"action": "delete", "pattern": "^url"}]
        after = pa.record_batch(run("record", actions, before))
        assert "mail@example.com" not in repr(after.to_pylist())


def test_lists_and_maps_can_be_set():
    value = [{"action": "insert", "key": "list", "value": [1, "a", {"$k": 2.5}]}]
    told = encoded("traces", run("record", value, spans("a")))
    (pair,) = told.resource_spans[0].scope_spans[0].spans[0].attributes
    items = pair.value.array_value.values
    assert [items[0].int_value, items[1].string_value] == [1, "a"]
    inner = items[2].kvlist_value.values[0]
    assert (inner.key, inner.value.double_value) == ("$k", 2.5)


def test_expressions_run_in_linear_time():
    batch = spans("a", text="a" * 100_000 + "!")
    actions = [{"action": "extract", "key": "text", "pattern": r"^(?P<all>(?:a+)+)$"}]
    assert run("record", actions, batch) is batch


# --- configuration


@pytest.mark.parametrize("module", [attributes, resource])
def test_the_docstrings_sample_is_valid(module: Any):
    sample = yaml.safe_load(module.__doc__.split("\n\n")[1])
    name = module.factory.type
    module.factory.create(ComponentId(name), module.Config.model_validate(sample["processors"][name]))


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ({"action": "insert", "key": "a"}, "insert needs one of value, from_attribute, from_context; got none"),
        ({"action": "insert", "value": 1}, "insert needs key"),
        ({"action": "upsert", "key": "a", "value": 1, "from_attribute": "b"}, r"got \['value', 'from_attribute'\]"),
        ({"action": "delete"}, "delete needs key or pattern"),
        ({"action": "delete", "key": "a", "value": 1}, "delete sets no value: remove value"),
        ({"action": "hash", "pattern": "("}, "not a regular expression"),
        ({"action": "hash", "pattern": "(?=a)"}, "look-around"),
        ({"action": "extract", "key": "a"}, "extract needs pattern"),
        ({"action": "extract", "key": "a", "pattern": "b"}, "every group of the pattern needs a name"),
        ({"action": "extract", "key": "a", "pattern": "(?P<x>b)(c)"}, "every group of the pattern needs a name"),
        ({"action": "convert", "key": "a"}, "convert needs converted_type"),
        ({"action": "convert", "key": "a", "converted_type": "bool"}, "converted_type"),
        ({"action": "update", "key": "a", "value": 1, "pattern": "x"}, "update takes no pattern"),
        ({"action": "insert", "key": "a", "from_context": "auth.subject"}, r"only metadata\.NAME"),
        ({"action": "insert", "key": "a", "value": 2**64}, "does not fit 64 bits"),
        ({"action": "insert", "key": "a", "value": 1, "default_value": 1}, "default_value goes with"),
        ({"action": "rename", "key": "a"}, "action"),
        ({"action": "insert", "key": "a", "value": 1, "from": "b"}, "from"),
    ],
)
def test_a_wrong_action_says_what_is_wrong(action: dict[str, Any], message: str):
    with pytest.raises(ValidationError, match=message):
        attributes.Config.model_validate({"actions": [action]})
    with pytest.raises(ValidationError, match=message):
        resource.Config.model_validate({"attributes": [action]})


@pytest.mark.parametrize(
    ("match", "message"),
    [
        ({"match_type": "strict"}, "needs at least one of services"),
        ({"services": ["a"]}, "match_type"),
        ({"match_type": "glob", "services": ["a"]}, "match_type"),
        ({"match_type": "regexp", "span_names": ["("]}, "not a regular expression"),
        ({"match_type": "regexp", "attributes": [{"key": "a", "value": 1}]}, "expression in quotes"),
        ({"match_type": "strict", "attributes": [{"value": 1}]}, "key"),
        ({"match_type": "strict", "span_name": ["a"]}, "span_name"),
    ],
)
def test_a_wrong_match_says_what_is_wrong(match: dict[str, Any], message: str):
    with pytest.raises(ValidationError, match=message):
        attributes.Config.model_validate({"actions": [{"action": "delete", "key": "a"}], "include": match})


def test_a_processor_without_actions_is_refused():
    with pytest.raises(ValidationError, match="actions"):
        attributes.Config.model_validate({})
