"""A real server in a process of its own, behind a launcher (`*_server.py`) that says where it listens."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

CACHE = Path("~/.cache/colonnade-test-servers").expanduser()


@dataclass
class Launched:
    """A running server. Its process ends when `stop` is called, or with the test run."""

    process: subprocess.Popen[str]
    info: dict[str, Any]
    script: ClassVar[str]

    @classmethod
    def start(cls, *arguments: str) -> Self:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name(cls.script)), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{cls.__name__} did not start: {process.stderr.read()[-2000:]}")
        return cls(process, json.loads(line))

    def kill(self) -> None:
        """Ends the server as a crash would."""
        if self.process.poll() is None:
            # The launcher's child is the server; it dies with the launcher, a moment later.
            server = os.pidfd_open(self.info["pid"])
            try:
                self.process.kill()
                self.process.wait()
                ended = select.poll()
                ended.register(server, select.POLLIN)
                ended.poll()
            finally:
                os.close(server)

    def stop(self) -> None:
        if self.process.poll() is None:
            assert self.process.stdin is not None
            self.process.stdin.close()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
