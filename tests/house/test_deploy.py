"""The image, the systemd unit and the CI entry are files nobody compiles: what they promise is checked here."""

from __future__ import annotations

import configparser
import json
import re
import stat
from collections import defaultdict
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]

INSTRUCTIONS = {
    *("FROM", "RUN", "COPY", "ENV", "WORKDIR", "VOLUME", "USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT"),
    *("CMD", "LABEL", "SHELL", "ARG"),
}


def dockerfile() -> list[tuple[str, str]]:
    """Instructions and their arguments, continuation lines joined."""
    text = re.sub(r"\\\n", " ", (TOP / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [(line.split(None, 1)[0], line.split(None, 1)[1].strip()) for line in lines]


@pytest.fixture(scope="module")
def last_stage() -> dict[str, list[str]]:
    steps = dockerfile()
    begin = max(i for i, (name, _) in enumerate(steps) if name == "FROM")
    stage: dict[str, list[str]] = defaultdict(list)
    for name, argument in steps[begin:]:
        stage[name].append(argument)
    return stage


def test_dockerfile_has_only_known_instructions_and_pinned_images() -> None:
    steps = dockerfile()
    assert {name for name, _ in steps} <= INSTRUCTIONS
    images = [argument.split()[0] for name, argument in steps if name == "FROM"]
    assert len(images) >= 2, "one stage to build, one to run"
    assert all(re.search(r":\d", image) for image in images), images


def test_dockerfile_copies_only_what_is_there_and_not_ignored() -> None:
    allowed = {line[1:] for line in (TOP / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for name, argument in dockerfile():
        if name != "COPY" or argument.startswith("--from"):
            continue
        for source in argument.split()[:-1]:
            assert (TOP / source).exists(), source
            assert source in allowed, f"{source} is left out by .dockerignore"


def test_dockerfile_leaves_no_package_lists_and_no_pip_cache() -> None:
    for name, argument in dockerfile():
        if name == "RUN" and "apt-get install" in argument:
            assert "--no-install-recommends" in argument
            assert "rm -rf /var/lib/apt/lists" in argument
        if name == "RUN" and "pip install" in argument:
            assert "--no-cache-dir" in argument


def test_image_runs_as_a_user_without_rights(last_stage: dict[str, list[str]]) -> None:
    assert last_stage["USER"] == ["10001:10001"]
    assert "--uid 10001" in " ".join(last_stage["RUN"])


def test_image_runs_its_configuration_and_says_how_it_is(last_stage: dict[str, list[str]]) -> None:
    assert json.loads(last_stage["ENTRYPOINT"][0]) == ["colonnade"]
    assert json.loads(last_stage["CMD"][0])[:2] == ["run", "--config"]
    assert "pipeline.yaml /etc/colonnade/pipeline.yaml" in last_stage["COPY"]
    assert json.loads(last_stage["CMD"][0])[2] == "/etc/colonnade/pipeline.yaml"
    check = json.loads(last_stage["HEALTHCHECK"][0].split("CMD", 1)[1])
    compile(check[2], "HEALTHCHECK", "exec")
    assert "13133" in check[2]
    assert "COLONNADE_HOST=0.0.0.0" in last_stage["ENV"][0]


def test_systemd_unit_reloads_drains_and_restarts() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None, delimiters="=", comment_prefixes="#")
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(TOP / "deploy/systemd/colonnade.service")
    service = unit["Service"]
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert service["KillMode"] == "mixed"
    assert service["Restart"] == "on-failure"
    assert service["ExecStart"].endswith("colonnade run --config /etc/colonnade/pipeline.yaml")
    assert service["ExecStartPre"].endswith("colonnade validate --config /etc/colonnade/pipeline.yaml")


def test_ci_entry_can_be_run_and_runs_make_test() -> None:
    file = TOP / ".ci/run"
    assert file.stat().st_mode & stat.S_IXUSR
    assert "exec make test" in file.read_text()


def test_licence_is_apache_2() -> None:
    text = (TOP / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
