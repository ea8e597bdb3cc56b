"""What the documents say is so: samples load, commands exist, links lead somewhere, cited tests and files are there."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import click
import pytest
import yaml

from colonnade.daemon.command import cli, main
from colonnade.daemon.configuration import load
from colonnade.daemon.graph import check
from colonnade.pipeline.component import Slice
from colonnade.pipeline.dead_letter import DeadLetters
from colonnade.pipeline.errors import Permanent
from colonnade.pipeline.settings import DeadLetterSettings
from tests.docs.kit import TOP, Block, Page, blocks, commands, completed, factories, files, pages, read
from tests.pipeline.kit import Numbers

YAML = blocks("yaml")
CONSOLE = blocks("console")
ARCHITECTURE = read(TOP / "ARCHITECTURE.md")
# What a console block may call besides `colonnade` and `make`, whose use is checked.
PROGRAMS = {
    "cargo",
    "cp",
    "curl",
    "docker",
    "git",
    "pip",
    "pre-commit",
    "python",
    "systemctl",
    "telemetrygen",
    "useradd",
}
# Commands that end by themselves and touch nothing: they are run.
HARMLESS = {"validate", "components", "print-config", "schema", "version"}


def test_there_is_something_to_look_at() -> None:
    names = {str(file.relative_to(TOP)) for file in files()}
    assert {"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/guarantees.md"} <= names
    assert len(YAML) > 12
    assert len(CONSOLE) > 10
    assert not [str(block) for page in pages() for block in page.blocks if not block.language], "name the language"


@pytest.mark.parametrize("block", YAML, ids=str)
def test_yaml_block_is_a_configuration_that_loads(block: Block) -> None:
    document = completed(yaml.safe_load(block.text))
    check(load([f"yaml:{json.dumps(document)}"], env={"CLICKHOUSE_PASSWORD": "x", "API_TOKEN": "x"}))


@pytest.mark.parametrize("file", [TOP / "pipeline.yaml", *sorted((TOP / "examples").rglob("*.yaml"))], ids=str)
def test_file_that_ships_loads(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TOP / "examples/own_component")
    document = yaml.safe_load(file.read_text())
    if "service" not in document:
        document = completed(document)
    own = document.get("processors", {}).pop("drop_probes", None)
    if own is not None:
        # Not installed here: its model takes the section, and the rest is a configuration without it.
        importlib.import_module("drop_probes").factory.config.model_validate(own)
        for pipeline in document["service"]["pipelines"].values():
            pipeline["processors"].remove("drop_probes")
    check(load([f"yaml:{json.dumps(document)}"]))


@pytest.mark.parametrize("block", CONSOLE, ids=str)
def test_console_block_calls_what_exists(block: Block) -> None:
    found = commands(block)
    assert found, "a console block has lines that begin with `$ `"
    for words in found:
        words = _without_environment(words)
        program, arguments = Path(words[0]).name, words[1:]
        if program == "make":
            assert {word for word in arguments if "=" not in word} <= make_targets(), words
        elif program == "colonnade":
            check_colonnade(arguments)
        else:
            assert program in PROGRAMS, words
        for word in arguments:
            if re.fullmatch(r"[\w.-][\w./-]*\.(py|yaml|toml|service)", word) and word != "broken.yaml":
                assert (TOP / word).exists(), words


def _without_environment(words: list[str]) -> list[str]:
    return words[next(i for i, word in enumerate(words) if not re.match(r"\w+=", word)) :]


@cache
def make_targets() -> set[str]:
    return set(re.findall(r"(?m)^([a-z][\w-]*):", (TOP / "Makefile").read_text()))


def check_colonnade(arguments: list[str]) -> None:
    """Options and their values are parsed as the program parses them; what is harmless is run."""
    arguments = arguments[: arguments.index(">")] if ">" in arguments else arguments
    command, context = cli, click.Context(cli, info_name="colonnade")
    if arguments and not arguments[0].startswith("-"):
        found = cli.get_command(context, arguments[0])
        assert found is not None, f"no command {arguments[0]}"
        command = found
        command.make_context(arguments[0], arguments[1:], parent=context)
    else:
        with pytest.raises(click.exceptions.Exit):
            command.make_context("colonnade", arguments)
    files_there = all((TOP / word).exists() for word in arguments if word.endswith(".yaml"))
    if arguments[0] in HARMLESS and files_there and "drop_probes" not in " ".join(arguments):
        ended = subprocess.run(
            [sys.executable, "-m", "colonnade", *arguments], cwd=TOP, capture_output=True, text=True, timeout=60
        )
        assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.file.relative_to(TOP)))
def test_links_lead_to_files_and_headings_that_are_there(page: Page) -> None:
    for link in page.links:
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.file.parent / path).resolve() if path else page.file
        assert target.exists(), link
        assert TOP in target.parents, f"{link} leads out of the project"
        if anchor:
            assert anchor in read(target).anchors, link


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.file.relative_to(TOP)))
def test_file_names_in_the_text_are_of_files_that_are_there(page: Page) -> None:
    pattern = re.compile(
        r"(?!colonnade/\d)(?:\.ci|bench|colonnade|deploy|docs|examples|native|tests)/[\w./-]*|[A-Z]+\.md|pyproject\.toml"
    )
    for text in page.code:
        name = text.partition("::")[0]
        if pattern.fullmatch(name):
            assert (TOP / name).exists(), f"{page.file.name}: {text}"


def test_the_sample_of_errors_is_what_the_program_says(tmp_path: Path) -> None:
    page = read(TOP / "docs/configuration.md")
    at = next(i for i, block in enumerate(page.blocks) if "--config broken.yaml" in block.text)
    (tmp_path / "broken.yaml").write_text(page.blocks[at - 1].text)
    command, _, says = page.blocks[at].text.partition("\n")
    arguments = command.removeprefix("$ colonnade ").split()
    ended = subprocess.run(
        [sys.executable, "-m", "colonnade", *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 1
    assert ended.stderr == says


def test_dead_letters_are_read_as_the_document_says(tmp_path: Path) -> None:
    (block,) = [block for block in read(TOP / "docs/operations.md").blocks if block.language == "python"]
    batch = Numbers().batch(3)
    part = Slice("log", "traces", "traces", 0, 3, [batch], 3, batch.nbytes)
    letters = DeadLetters(lambda: tmp_path / "data/dead_letter/exporter_x", DeadLetterSettings())
    letters.park(part, "x", Permanent("too_odd", "the rows are too odd"), 1.0)
    ended = subprocess.run([sys.executable, "-c", block.text], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ended.stdout.endswith(": 3 rows, the rows are too odd\n"), ended


# --- ARCHITECTURE.md


def cited_tests() -> list[str]:
    pages = (ARCHITECTURE, read(TOP / "docs/guarantees.md"))
    return [text for page in pages for text in page.code if re.fullmatch(r"(tests|native)/[\w/]+\.(py|rs)::\w+", text)]


def test_every_invariant_cites_a_test() -> None:
    text = ARCHITECTURE.file.read_text()
    section = text.split("\n## Invariants\n")[1].split("\n## ")[0]
    invariants = re.split(r"(?m)^\d+\. ", section)[1:]
    assert len(invariants) >= 15
    for number, invariant in enumerate(invariants, 1):
        assert re.search(r"`(tests|native)/[\w/]+\.(py|rs)::\w+`", invariant), f"invariant {number} cites no test"


@pytest.mark.parametrize("cited", sorted(set(cited_tests())))
def test_cited_test_is_there(cited: str) -> None:
    path, _, name = cited.partition("::")
    text = (TOP / path).read_text()
    if path.endswith(".py"):
        kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        assert name in {node.name for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)}
    else:
        assert re.search(rf"#\[test\]\s+fn {name}\(", text)


def python_dependencies() -> set[str]:
    project = tomllib.loads((TOP / "pyproject.toml").read_text())
    listed = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    for group in (project["project"]["optional-dependencies"], project["dependency-groups"]):
        listed += [one for requirements in group.values() for one in requirements]
    return {re.split(r"[\[<>=! ]", one)[0] for one in listed} - {project["project"]["name"]}


def rust_dependencies() -> set[str]:
    manifest = tomllib.loads((TOP / "native/Cargo.toml").read_text())
    return {name for key, section in manifest.items() if key.endswith("dependencies") for name in section}


@pytest.mark.parametrize(
    ("head", "declared"),
    [(("Package", "Where", "Why"), python_dependencies()), (("Crate", "Where", "Why"), rust_dependencies())],
    ids=["python", "rust"],
)
def test_every_dependency_has_its_line_and_no_other(head: tuple[str, ...], declared: set[str]) -> None:
    rows = ARCHITECTURE.table(*head)
    named = [name for row in rows for name in row[0].split(", ")]
    assert len(declared) > 10
    assert sorted(named) == sorted(declared)
    assert all(row[2] for row in rows)


# Packages whose modules have another name.
SPELLED_OTHERWISE = {"crawler-user-agents": "crawleruseragents", "libpass": "passlib", "pyyaml": "yaml"}


def test_what_the_program_depends_on_is_used() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    extras = [one for extra in project["optional-dependencies"].values() for one in extra]
    names = {re.split(r"[\[<>=]", one)[0] for one in [*project["dependencies"], *extras]} - {project["name"]}
    sources = "".join(file.read_text() for file in (TOP / "colonnade").rglob("*.py"))
    modules = {name: SPELLED_OTHERWISE.get(name, name.replace("-", "_")) for name in names}
    assert not [name for name, module in modules.items() if not re.search(rf"(import|from) {module}\b", sources)]
    native = "".join(
        file.read_text() for folder in ("src", "examples") for file in (TOP / "native" / folder).rglob("*.rs")
    )
    native += (TOP / "native/build.rs").read_text()
    assert not [name for name in rust_dependencies() if not re.search(rf"\b{name.replace('-', '_')}\b", native)]


def test_the_map_of_rooms_has_every_room() -> None:
    (tree,) = [block for block in ARCHITECTURE.blocks if "colonnade/" in block.text and "native/" in block.text]
    rooms = {path.name for path in (TOP / "colonnade").iterdir() if path.is_dir() and path.name != "__pycache__"}
    named = set(re.findall(r"(?m)^\s*(\w+)/", tree.text))
    assert rooms <= named
    there = {path.name for path in TOP.iterdir()} | rooms
    assert named <= there | {path.name for path in (TOP / "native/src").iterdir()}


# --- README.md and guarantees.md


def test_readme_names_every_component() -> None:
    rows = read(TOP / "README.md").table("Kind", "Type", "What it does")
    assert {tuple(row[:2]) for row in rows} == {(factory.kind, factory.type) for factory in factories()}


def test_defaults_told_as_different_are_the_programs() -> None:
    rows = read(TOP / "docs/guarantees.md").table("Component", "Key", "Collector", "Here", "Why")
    assert len(rows) > 8
    for component, key, _, here, _ in rows:
        page = "service.md" if component == "service" else f"components/{component.replace(' ', '-')}.md"
        shown = read(TOP / "docs/reference" / page).table("Key", "Type", "Default", "Meaning")
        defaults = {row[0]: row[2].replace("`", "") for row in shown}
        assert defaults[key] == here, (component, key)


def test_the_makefile_and_contributing_agree() -> None:
    named = set(re.findall(r"`make ([\w-]+)`", (TOP / "CONTRIBUTING.md").read_text()))
    told = set(re.findall(r"(?m)^([a-z-]+):.*## ", (TOP / "Makefile").read_text()))
    assert len(told) > 8
    assert named == told


def test_markers_are_told() -> None:
    options = tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    names = {marker.partition(":")[0] for marker in options["markers"]}
    rows = read(TOP / "CONTRIBUTING.md").table("Marker", "Means", "Run by")
    assert {row[0] for row in rows} == names


def test_nothing_is_left_of_drafts() -> None:
    for file in files():
        assert not re.search(r"\b(TODO|TBD|FIXME|XXX)\b", file.read_text()), file


@pytest.mark.parametrize("name", ["segment", "beacon", "events"])
def test_a_sample_of_a_source_becomes_what_its_page_says(name: str, tmp_path: Path, capsys) -> None:
    page = read(TOP / f"docs/{name}.md")
    (event,) = [block for block in page.blocks if block.language == "json"]
    (rows,) = [block for block in page.blocks if block.language == "text"]
    (mapping,) = re.findall(
        r"`colonnade map FILE --mapping ([\w.]+)`", page.file.read_text().split("## What lands")[1]
    )[:1]
    (tmp_path / "event.json").write_text(json.dumps(json.loads(event.text), separators=(",", ":")))
    assert main(["map", str(tmp_path / "event.json"), "--mapping", mapping]) == 0
    assert capsys.readouterr().out == rows.text
