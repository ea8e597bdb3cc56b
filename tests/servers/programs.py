"""Other projects' programs that tests run, fetched once into a cache outside of the project."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

CACHE = Path(os.environ.get("COLONNADE_TEST_CACHE") or "~/.cache/colonnade-test-servers").expanduser()
COLLECTOR_BUILDER = "go.opentelemetry.io/collector/cmd/builder@v0.161.0"
TELEMETRYGEN = "github.com/open-telemetry/opentelemetry-collector-contrib/cmd/telemetrygen@v0.161.0"


@contextmanager
def _alone(folder: Path) -> Generator[None]:
    """Test processes side by side wait for one that fetches."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _require(program: str, why: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{why} needs {program}")
    return found


def go_program(module: str) -> Path:
    """The program of a Go module (`path@version`), built with the Go toolchain."""
    go = _require("go", module)
    folder = CACHE / "go" / module.rpartition("@")[2]
    program = folder / module.rpartition("@")[0].rpartition("/")[2]
    with _alone(folder):
        if not program.exists():
            environment = {**os.environ, "GOBIN": str(folder), "CGO_ENABLED": "0", "GOFLAGS": "-trimpath"}
            subprocess.run([go, "install", module], env=environment, check=True)
    return program


def collector(manifest: Path) -> Path:
    """A Collector of the components that a file of its builder names."""
    builder = go_program(COLLECTOR_BUILDER)
    folder = CACHE / "collector" / hashlib.sha256(manifest.read_bytes()).hexdigest()[:12]
    with _alone(folder):
        if not (folder / "otelcol").exists():
            environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-trimpath"}
            asked = yaml.safe_load(manifest.read_text())
            asked["dist"] |= {"name": "otelcol", "output_path": str(folder)}
            (folder / "builder.yaml").write_text(yaml.safe_dump(asked))
            subprocess.run([builder, "--config", folder / "builder.yaml"], env=environment, check=True, cwd=folder)
    return folder / "otelcol"


def node_folder(source: Path) -> Path:
    """A copy of a Node project with its dependencies beside it."""
    npm = _require("npm", source.name)
    files = sorted(file for file in source.iterdir() if file.is_file())
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
    folder = CACHE / "node" / f"{source.name}-{digest}"
    with _alone(folder):
        if not (folder / "node_modules").exists():
            for file in files:
                shutil.copy(file, folder)
            command = [npm, "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]
            subprocess.run(command, cwd=folder, check=True, stdin=subprocess.DEVNULL)
    return folder


def python_folder(requirement: str) -> Path:
    """A folder for PYTHONPATH that has a package of a certain version (`name==version`) and what it needs."""
    folder = CACHE / "python" / requirement.replace("==", "-")
    with _alone(folder):
        if not (folder / "done").exists():
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), requirement]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
            (folder / "done").touch()
    return folder
