"""The reference pages are what the program is: current, complete, and nothing left over."""

from __future__ import annotations

import csv
import json
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from colonnade.daemon.command import cli
from colonnade.daemon.configuration.service import Service
from colonnade.pipeline.instruments import PREFIX, TABLE
from colonnade.pipeline.outcome import TABLE as OUTCOMES
from tests.docs.kit import TOP, factories, files, read, script

generate = script("docs/generate.py")
REFERENCE, PAGES = generate.REFERENCE, generate.pages()


def names_of(page: str, *head: str) -> list[str]:
    """First column of a table of a reference page."""
    return [row[0] for row in read(REFERENCE / page).table(*head)]


def test_no_page_is_missing_and_none_is_left_over() -> None:
    there = {str(file.relative_to(REFERENCE)) for file in REFERENCE.rglob("*") if file.is_file()}
    assert there == PAGES.keys()


@pytest.mark.parametrize("name", sorted(PAGES))
def test_page_is_current(name: str) -> None:
    assert (REFERENCE / name).read_text(encoding="utf-8") == PAGES[name], "run `make docs`"


def test_every_component_that_is_registered_has_a_page() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    registered = project["entry-points"]["colonnade.components"]
    assert len(registered) >= 8
    assert {f"components/{name.replace('.', '-')}.md" for name in registered} == {
        name for name in PAGES if name.startswith("components/") and not name.endswith("README.md")
    }


def keys_of(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every key of a model by walking its classes, which is not how the page was made."""
    for name, info in model.model_fields.items():
        key = prefix + (info.alias or name)
        yield key
        for inner, suffix in sections_in(info.annotation):
            yield from keys_of(inner, f"{key}{suffix}.")


def sections_in(annotation: Any) -> Iterator[tuple[type[BaseModel], str]]:
    """Models within an annotation, and what a page writes between the key and theirs."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, ""
    origin, inside = getattr(annotation, "__origin__", None), getattr(annotation, "__args__", ())
    suffix = {tuple: "[]", list: "[]", dict: ".ID"}.get(origin, "")
    for argument in inside:
        for model, deeper in sections_in(argument):
            yield model, suffix + deeper


@pytest.mark.parametrize("factory", factories(), ids=lambda factory: f"{factory.kind}-{factory.type}")
def test_a_components_page_has_every_key_once(factory: Any) -> None:
    name = f"components/{factory.kind}-{factory.type}.md"
    keys = list(keys_of(factory.config))
    shown = names_of(name, "Key", "Type", "Default", "Meaning") if keys else []
    assert sorted(shown) == sorted(keys)


def test_the_service_page_has_every_key_once() -> None:
    keys = list(keys_of(Service))
    assert len(keys) > 30
    assert sorted(names_of("service.md", "Key", "Type", "Default", "Meaning")) == sorted(keys)


def test_the_columns_page_has_every_column_in_order_and_no_empty_cell() -> None:
    with (TOP / "colonnade/unified_schema/unified_schema.csv").open(newline="") as source:
        expected = [(row["position"], row["name"], row["type"]) for row in csv.DictReader(source)]
    rows = [row for table in read(REFERENCE / "columns.md").tables for row in table[1:]]
    assert len(rows) == 172
    assert [tuple(row[:3]) for row in rows] == expected
    attributes = read(REFERENCE / "columns.md").tables[0][0].index("OpenTelemetry attributes")
    assert all(cell for row in rows for index, cell in enumerate(row) if index != attributes)


def test_the_metrics_page_has_every_instrument() -> None:
    shown = names_of("metrics.md", "Name", "Type", "Labels", "Level", "Meaning")
    assert shown == sorted(PREFIX + instrument.name for instrument in TABLE)


def test_the_errors_page_has_every_outcome_and_code() -> None:
    assert names_of("errors.md", "Outcome", "HTTP", "gRPC", "Try again", "Differs for") == [*OUTCOMES]
    codes = names_of("errors.md", "Code", "Outcome", "Error", "Meaning")
    assert set(codes) == {code for code, _, _ in generate.error_codes()}
    # Codes that tests elsewhere rely on: the scan of the sources finds each way in which a code is said.
    assert {"queue_full", "memory_limited", "timeout", "can_not_listen", "gave_up", "start_failed"} <= set(codes)


def test_every_outcome_of_a_code_is_in_the_table() -> None:
    assert {cls.kind for _, cls, _ in generate.error_codes()} <= OUTCOMES.keys()


def test_the_command_page_has_every_command() -> None:
    anchors = read(REFERENCE / "command_line.md").anchors
    assert {f"colonnade-{name}" for name in cli.list_commands(None)} <= anchors  # type: ignore[arg-type]


def test_the_schema_for_editors_is_a_schema_and_takes_the_files_that_ship() -> None:
    import yaml

    schema = json.loads(PAGES["configuration.schema.json"])
    Draft202012Validator.check_schema(schema)
    shipped = [TOP / "pipeline.yaml", *(TOP / "examples").rglob("pipeline.yaml")]
    assert len(shipped) > 4
    for file in shipped:
        document = yaml.safe_load(file.read_text())
        # A component of another package is not in the schema that Colonnade checks in.
        document["processors"].pop("drop_probes", None)
        errors = [f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(document)]
        assert not errors, (file, errors)
    wrong = {"receivers": {"otlp": {"protcols": None}}, "exporters": {}, "service": {}}
    assert list(Draft202012Validator(schema).iter_errors(wrong))


@pytest.mark.parametrize(("value", "is_taken"), [(16, True), ("${env:MAX}", True), ("sixteen", False), (-1, False)])
def test_a_variable_may_stand_where_a_number_does(value: Any, is_taken: bool) -> None:
    schema = json.loads(PAGES["configuration.schema.json"])
    otlp = {"protocols": {"grpc": {"max_recv_msg_size_mib": value}}}
    document = {"receivers": {"otlp": otlp}, "exporters": {"nop": None}, "service": {}}
    assert Draft202012Validator(schema).is_valid(document) == is_taken


def test_every_reference_page_is_reached_by_a_link() -> None:
    linked = {
        (file.parent / link.partition("#")[0]).resolve()
        for file in files()
        for link in read(file).links
        if "://" not in link
    }
    assert REFERENCE / "columns.md" in linked
    assert {REFERENCE / name for name in PAGES} <= linked
