"""How much memory a run took at most: of the GPU where it used one, of the process elsewhere."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import torch

#: What the numbers are of.
PROCESS, CUDA = "process", "cuda"
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Peak memory since it was made.

    Called, it gives bytes and what they are of: "cuda", the largest sum of torch's tensors on the GPU; or "process",
    the high-water mark of the process's resident memory over what it held at the start. `None` where the system tells
    neither.
    """

    def __init__(self) -> None:
        with suppress(OSError):
            _RESET.write_text("5")  # Linux: what imports took for a moment is forgotten
        self.before = _resident()

    def __call__(self) -> tuple[int | None, str]:
        if torch.cuda.is_available() and torch.cuda.is_initialized() and torch.cuda.max_memory_allocated():
            return torch.cuda.max_memory_allocated(), CUDA
        peak = high_water()
        return (None if peak is None or self.before is None else max(peak - self.before, 0)), PROCESS


def _resident() -> int | None:
    """Bytes of the process that are in memory now."""
    if (size := _of_linux("VmRSS")) is not None:
        return size
    try:
        import psutil
    except ImportError:
        return None
    return psutil.Process().memory_info().rss


def high_water() -> int | None:
    """The most bytes that were in memory at a time."""
    # Not getrusage on Linux: a process begins there with the mark of the one that started it.
    if (size := _of_linux("VmHWM")) is not None:
        return size
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        import psutil
    except ImportError:
        return None
    return getattr(psutil.Process().memory_info(), "peak_wset", None)


def _of_linux(key: str) -> int | None:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    found = next((line.split() for line in lines if line.startswith(f"{key}:")), None)
    return int(found[1]) * 1024 if found else None
