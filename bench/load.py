"""The load generator `native/examples/load`, built and spoken to."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parent.parent
ENDS_WITHIN_S = 10.0


def build(profile: Literal["release", "dev"] = "release", example: str = "load") -> Path:
    """A program of `native/examples`; cargo builds what changed. `cargo test` has built those of `dev` already."""
    command = ["cargo", "build", "--quiet", "--manifest-path", str(ROOT / "native" / "Cargo.toml")]
    options = ["--no-default-features", "--example", example, "--profile", profile, "--message-format=json"]
    done = subprocess.run(command + options, check=True, stdout=subprocess.PIPE, text=True)
    artifacts = [json.loads(line) for line in done.stdout.splitlines()]
    return Path(next(a["executable"] for a in artifacts if a.get("executable") and a["target"]["name"] == example))


def dump(program: Path, *arguments: str) -> bytes:
    """One request's protobuf."""
    return subprocess.run([program, "--dump", *arguments], check=True, stdout=subprocess.PIPE).stdout


class Load:
    """A running generator with its connections open."""

    def __init__(self, program: Path, address: str, arguments: list[str]) -> None:
        """Raises RuntimeError when it can not connect."""
        self._process = subprocess.Popen(
            [program, "--to", address, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid
        if self._read() != "ready":
            raise RuntimeError(self._why())

    def run(self, seconds: float) -> dict[str, Any]:
        """Sends for so long, waits for the last answers, and says what became of the requests.

        The keys are those of `Stats::json` in `native/examples/load/stats.rs`.
        """
        self.begin(seconds)
        return self.end()

    def begin(self, seconds: float) -> None:
        """Sends for so long; `end` waits for it."""
        assert self._process.stdin is not None
        print(f"run {seconds}", file=self._process.stdin, flush=True)

    def end(self) -> dict[str, Any]:
        """What became of the requests."""
        line = self._read()
        if not line:
            raise RuntimeError(self._why())
        return json.loads(line)

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def _why(self) -> str:
        assert self._process.stderr is not None
        self._process.kill()
        return self._process.stderr.read().strip() or "the load generator ended"

    def close(self) -> None:
        """Ends it; idempotent."""
        if self._process.poll() is None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                self._process.wait(ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
