"""What the operating system says of a process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import psutil

MIB = 1 << 20


def cpu_s(pid: int) -> float:
    """CPU-seconds of all threads so far, ended ones too, user and system; children that live are included."""
    process = psutil.Process(pid)
    total = 0.0
    for part in [process, *process.children(recursive=True)]:
        times = part.cpu_times()
        total += times.user + times.system
    return total


def peak_rss_mib(pid: int) -> float:
    """Largest resident memory since it started."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"process {pid} has no VmHWM")


def rss_mib(pid: int) -> float:
    """Resident memory now."""
    return psutil.Process(pid).memory_info().rss / MIB


def pin(pid: int, cores: Sequence[int]) -> None:
    """Keeps every thread of a process on these cores; threads that start later inherit it."""
    for thread in psutil.Process(pid).threads():
        psutil.Process(thread.id).cpu_affinity(list(cores))
