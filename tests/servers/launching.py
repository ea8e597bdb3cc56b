"""What the launchers of real servers share: ports, a stop that is asked for, a child that dies with its parent, jars.

Launchers are programs of their own: this module is imported by its bare name, from beside them.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

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
