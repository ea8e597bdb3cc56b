"""A client that can break gRPC's framing: curl with HTTP/2 by prior knowledge."""

from __future__ import annotations

import shutil
import subprocess

import pytest


def _headers(text: str) -> dict[str, str]:
    """Head and trailers of curl's header dump."""
    found = {}
    for line in text.splitlines():
        if line.startswith("HTTP/2 "):
            found[":status"] = line.split()[1]
        elif ": " in line:
            name, value = line.split(": ", 1)
            found[name.lower()] = value
    return found


@pytest.fixture
def h2_request():
    """Calls `(port, path, body, headers)`; gives status, headers and trailers of the answer."""
    curl = shutil.which("curl")
    if curl is None or "HTTP2" not in subprocess.run([curl, "-V"], capture_output=True, text=True).stdout:
        pytest.skip("needs curl with HTTP/2")

    def call(port: int, path: str, body: bytes, headers: dict[str, str]) -> dict[str, str]:
        command = [
            curl,
            "-sS",
            "--http2-prior-knowledge",
            "-m",
            "10",
            "-D",
            "-",
            "-o",
            "/dev/null",
            "--data-binary",
            "@-",
        ]
        for name, value in headers.items():
            command += ["-H", f"{name}: {value}"]
        done = subprocess.run([*command, f"http://127.0.0.1:{port}{path}"], input=body, capture_output=True)
        return _headers(done.stdout.decode())

    return call
