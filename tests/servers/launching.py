"""What the launchers of real servers share: ports, a stop that is asked for, a child that dies with its parent, jars.

Launchers are programs of their own: this module is imported by its bare name, from beside them.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
LIBC = ctypes.CDLL(None)


def choose_ports(wanted: list[int]) -> list[int]:
    """Replace each 0 by a free port (all held at once, so that they differ); a given port must be free."""
    with contextlib.ExitStack() as stack:
        ports = []
        for port in wanted:
            s = stack.enter_context(socket.socket())
            if port:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind((HOST, port))
            except OSError as e:
                raise SystemExit(f"port {port}: {e.strerror}") from None
            ports.append(s.getsockname()[1])
        return ports


def listens(pid: int, port: int) -> bool:
    """Whether process pid itself listens on port: another program may have taken it since it was chosen."""
    sockets = set()
    with contextlib.suppress(OSError):
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
                    sockets.add(f"socket:[{fields[9]}]")
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/fd/{fd}") in sockets:
                    return True
    return False


def die_with_parent() -> None:
    """In the child: be killed if this script is killed (Linux PR_SET_PDEATHSIG)."""
    LIBC.prctl(1, signal.SIGKILL)


class Stop:
    """Asked for by SIGTERM, SIGINT, or end of file on a stdin that is a pipe or a socket. (No thread: this forks.)"""

    def __init__(self) -> None:
        self.asked = False
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._on_signal)
        self._watched = []
        with contextlib.suppress(OSError):
            mode = os.fstat(0).st_mode
            if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
                self._watched = [0]

    def _on_signal(self, signum: int, frame: object) -> None:
        self.asked = True

    def wait(self, seconds: float) -> bool:
        """Whether a stop is asked for, waiting up to this long for it."""
        if not self.asked and select.select(self._watched, [], [], seconds)[0]:
            with contextlib.suppress(OSError):
                self.asked = self.asked or not os.read(0, 4096)
        return self.asked


def stop_child(child: subprocess.Popen, grace: float) -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(grace)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def default_java() -> str:
    home = os.environ.get("JAVA_HOME")
    return os.path.join(home, "bin", "java") if home else "java"


def download_jar(artifact: str, target: Path, sha256: str | None) -> None:
    """Fetch group:artifact:version[:type:classifier] into target with Maven, whole and checked or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.with_name(target.name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # parallel test workers wait for one download
        if target.exists():
            return
        folder = Path(tempfile.mkdtemp(dir=target.parent))
        try:
            subprocess.run(
                ["mvn", "-q", "-B", "dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={folder}"],
                check=True,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr,
            )
            jar = next(folder.glob("*.jar"))
            with open(jar, "rb") as f:
                found = hashlib.file_digest(f, "sha256").hexdigest()
            if found != (sha256 or found):
                raise SystemExit(f"{artifact}: SHA-256 is {found}, expected {sha256}")
            jar.rename(target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def data_folder(given: Path | None, name: str, cleanup: contextlib.ExitStack) -> Path:
    """The folder that is kept, or a temporary one that is removed at the end."""
    if given is None:
        root = Path(tempfile.mkdtemp(prefix=f"{name}-"))
        cleanup.callback(shutil.rmtree, root, ignore_errors=True)
        return root
    root = given.absolute()
    root.mkdir(parents=True, exist_ok=True)
    return root


def serve(
    name: str,
    command: list[str],
    environment: dict[str, str],
    log_path: Path,
    stop: Stop,
    *,
    port: int,
    answers: Callable[[int], bool],
    said: dict[str, Any],
    timeout_s: float,
) -> int:
    """Runs a server until a stop is asked for: says what it is once it answers on its port. Gives the exit status."""
    with open(log_path, "wb") as log:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            preexec_fn=die_with_parent,
        )
    try:
        deadline = time.monotonic() + timeout_s
        while not (listens(child.pid, port) and answers(port)):
            if stop.asked:
                return 0
            if child.poll() is not None or time.monotonic() > deadline:
                return _failed(f"{name} did not start", child, log_path)
            stop.wait(0.05)
        print(json.dumps(said | {"log": str(log_path), "pid": child.pid}), flush=True)
        while not stop.wait(0.2):
            if child.poll() is not None:
                return _failed(f"{name} ended by itself", child, log_path)
    finally:
        stop_child(child, 20)
    return 0


def _failed(what: str, child: subprocess.Popen, log_path: Path) -> int:
    tail = log_path.read_text(errors="replace")[-4000:]
    print(f"{what} (exit status {child.poll()}); end of its log:\n{tail}", file=sys.stderr)
    return 1
