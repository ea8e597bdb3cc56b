"""Every registered component: importable, documented by a sample that loads, and strict and clear about its keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from colonnade.daemon.configuration import ConfigError
from colonnade.pipeline.component import KINDS, ComponentId
from colonnade.pipeline.registry import registry
from colonnade.pipeline.settings import Secret
from tests.contract.kit import SECTION, Document, blocks, factory_of, file_of, names, read, samples

STABILITIES = ("stable", "beta", "alpha", "development")
SECRET = re.compile(r"(^|_)(password|secret|token|api_key|key_pem|credentials?|authorization)$")
# What only a programmer understands.
JARGON = re.compile(r"pydantic|validation error|Value error|Input should|\[type=|Traceback", re.IGNORECASE)

every_component = pytest.mark.parametrize("name", names())


def test_every_kind_of_the_registry_is_walked() -> None:
    assert len(names()) == sum(len(registry().types(kind)) for kind in KINDS) > 0


@every_component
def test_it_can_be_imported_and_says_what_it_is(name: str) -> None:
    factory = factory_of(name)
    assert ComponentId.parse(factory.type) == ComponentId(factory.type)
    assert factory.stability in STABILITIES
    assert bool(factory.signals) == (factory.kind in ("receiver", "processor", "exporter"))
    assert bool(factory.connects) == (factory.kind == "connector")


@every_component
def test_the_sample_of_its_documentation_loads(name: str) -> None:
    factory = factory_of(name)
    assert len(factory.doc.splitlines()) >= 5, f"{factory.module} hardly says what it does"
    assert "Collector" in factory.doc, f"{factory.module} says nothing of the Collector's component of that name"
    assert samples(factory)
    for block in blocks(factory):
        own = block.pop(SECTION[factory.kind])
        own = {key: settings for key, settings in own.items() if ComponentId.parse(key).type == factory.type}
        configuration = read(file_of(factory, own, beside=block))
        assert not configuration.warnings


@every_component
def test_defaults_are_valid_or_refused_with_a_good_message(name: str) -> None:
    factory = factory_of(name)
    try:
        read(file_of(factory, {factory.type: None}))
    except ConfigError as error:
        for problem in error.problems:
            assert problem.place is not None, problem
            assert f"{SECTION[factory.kind]}::{factory.type}" in problem.message
            assert not JARGON.search(problem.message), problem
            assert len(problem.message) > 30, f"says too little: {problem}"


@every_component
def test_unknown_keys_are_refused_with_the_nearest_one(name: str) -> None:
    factory = factory_of(name)
    where = f"'{SECTION[factory.kind]}::{factory.type}' has invalid keys: "
    for key in keys_of(factory.config) or ["anything"]:
        wrong = f"{key[:-1]}_{key[-1]}"
        with pytest.raises(ConfigError) as refused:
            read(file_of(factory, {factory.type: samples(factory)[0].settings | {wrong: 1}}))
        told = [problem for problem in refused.value.problems if problem.message.startswith(where + wrong)]
        assert len(told) == 1, f"{key}: {refused.value}"
        assert told[0].place is not None
        if key in keys_of(factory.config):
            assert "did you mean " in told[0].message


@every_component
def test_every_key_is_described_and_every_secret_is_one(name: str) -> None:
    for path, info in fields_of(factory_of(name).config):
        assert info.description, f"{path} has no description"
        if SECRET.search(path.rpartition(".")[2]):
            assert Secret in kinds_of(info.annotation), f"{path} looks like a secret and would be printed"


@every_component
def test_older_spellings_are_taken_with_a_warning(name: str) -> None:
    factory = factory_of(name)
    for alias in factory.aliases:
        configuration = read(file_of(factory, {alias: samples(factory)[0].settings}))
        assert [factory.type in str(warning) for warning in configuration.warnings] == [True]
        assert (factory.kind, ComponentId(factory.type)) in configuration.components


def keys_of(model: type[BaseModel]) -> list[str]:
    return [info.alias or name for name, info in model.model_fields.items()]


def fields_of(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every key of a section and of the sections in it."""
    for name, info in model.model_fields.items():
        here = f"{path}.{info.alias or name}" if path else info.alias or name
        yield here, info
        for kind in kinds_of(info.annotation):
            if isinstance(kind, type) and issubclass(kind, BaseModel) and kind is not model:
                yield from fields_of(kind, here)


def kinds_of(annotation: Any) -> set[Any]:
    """The classes that an annotation is made of."""
    parts = get_args(annotation)
    return {annotation} if not parts else {kind for part in parts for kind in kinds_of(part)}


def test_the_sample_finder_finds_more_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    found: Document = {}
    for block in blocks(factory_of("exporter.clickhouse")):
        found |= block["exporters"]
    assert list(found) == ["clickhouse", "clickhouse/laptop"]
