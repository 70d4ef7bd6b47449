"""One way of measuring for every benchmark.

Each side of a comparison lives in a fresh process with one thread. The sides take turns, so that what else the machine
does falls on all of them alike; what counts is CPU time (``process_time``), the best turn after the warm-ups. Short
calls are repeated within a turn, as a loop would, and their mean counts: a single one would measure caches that the
other sides have just emptied. The C allocator can decide more than the algorithm: a fresh process pays page faults for
every large buffer, a long-running one does not. So each side runs twice, with memory kept for reuse and with malloc as
it is.

A benchmark module offers *workloads*, functions from JSON-able arguments to a :class:`Workload`:

    def attention(side: str, size: int, training: bool) -> Workload: ...

and names them as ``"package.module:function"``:

    measured = compare({
        "ours": Job("benchmarks.mine:attention", {"side": "ours", "size": 56, "training": True}),
        "theirs": Job("benchmarks.mine:attention", {"side": "theirs", "size": 56, "training": True}),
    })
    print(table(["side", "ms", "peak MB"], [[n, f"{m.reuse_ms:.1f}", f"{m.peak_mb:.0f}"] for n, m in measured.items()]))
"""

import contextlib
import importlib
import json
import math
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

WARM_UPS = 2
REPEATS = 7
#: CPU time of a turn, at least.
TURN_MS = 20.0

MALLOC = {
    # Freed memory stays with the process: what a training loop sees after its first steps.
    "reuse": {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "17179869184", "MALLOC_TOP_PAD_": "268435456"},
    "default": {},
}


@dataclass(frozen=True)
class Workload:
    """What one side does.

    ``run`` is the call that is timed. ``loss``, if given, is the forward part with gradients on: what it keeps for
    backward is counted, except the tensors in ``own`` (parameters and inputs, which exist anyway).
    """

    run: Callable[[], Any]
    loss: "Callable[[], Tensor] | None" = None
    own: "Iterable[Tensor]" = ()


@dataclass(frozen=True)
class Job:
    """A workload by name ("package.module:function") and its arguments."""

    target: str
    args: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Measurement:
    """Milliseconds of CPU of a call in the best turn, minor page faults of a call in it, megabytes (1e6 bytes)."""

    reuse_ms: float
    default_ms: float
    reuse_faults: int
    default_faults: int
    peak_mb: float
    """Growth of the process's high-water mark over its state before the first call, under default malloc."""
    saved_mb: float | None
    """Bytes in distinct storages kept for backward; None without ``Workload.loss``."""


def compare(
    jobs: Mapping[str, Job], repeats: int = REPEATS, warm_ups: int = WARM_UPS, *, modes: Sequence[str] = tuple(MALLOC)
) -> dict[str, Measurement]:
    """Measure all jobs against each other, in some modes of malloc; without one its times are NaN.

    Raises RuntimeError with the child's traceback if one fails.
    """
    best: dict[str, dict[str, tuple[float, int]]] = {name: {} for name in jobs}
    peaks: dict[str, float] = {}
    saved: dict[str, float | None] = {}
    for mode in modes:
        children = {name: _Child(job, mode) for name, job in jobs.items()}
        try:
            for turn in range(warm_ups + repeats):
                for name, child in children.items():
                    answer = child.ask("run")
                    call = (answer["ms"], answer["faults"])
                    if turn >= warm_ups:
                        best[name][mode] = min(best[name].get(mode, call), call)
            for name, child in children.items():
                peaks[name] = child.ask("peak")["mb"]
                if mode == modes[-1]:
                    saved[name] = child.ask("saved")["mb"]
        finally:
            for child in children.values():
                child.close()
    found = {name: {mode: calls.get(mode, (math.nan, 0)) for mode in MALLOC} for name, calls in best.items()}
    return {
        name: Measurement(
            reuse_ms=found[name]["reuse"][0],
            default_ms=found[name]["default"][0],
            reuse_faults=found[name]["reuse"][1],
            default_faults=found[name]["default"][1],
            peak_mb=peaks[name],  # of the last mode, default malloc unless left out
            saved_mb=saved[name],
        )
        for name in jobs
    }


def saved_bytes(loss: "Callable[[], Tensor]", own: "Iterable[Tensor]" = ()) -> int:
    """Bytes of the distinct storages that ``loss()`` keeps for its backward pass, those of ``own`` not counted."""
    import torch

    ignored = {tensor.untyped_storage().data_ptr() for tensor in own}
    kept: dict[int, int] = {}

    def pack(tensor: "Tensor") -> "Tensor":
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in ignored:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = loss()  # alive until counted, so that no storage is reused for another
    total = sum(kept.values())
    del result
    return total


def allocated_bytes(run: Callable[[], Any]) -> int:
    """By how much the memory of torch's tensors grows during ``run()`` at most: what a GPU's allocator would count.

    Scratch memory of the libraries beneath and what the C allocator loses between blocks are not in it.
    """
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    changes = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event.get("name") == "[memory]")
    return max(accumulate(change for _, change in changes))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join(lines + [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows])


def machine() -> str:
    """One line on what the numbers were measured with."""
    import torch

    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = names[0] if names else cpu
    return f"{cpu}, {os.cpu_count()} cores, one thread; Python {platform.python_version()}, torch {torch.__version__}"


class _Child:
    """A fresh process that holds one workload and makes one call at a time."""

    def __init__(self, job: Job, mode: str):
        self.job = job
        threads = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks._measure"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**inherited, **threads, **MALLOC[mode]},
            cwd=Path(__file__).parent.parent,
        )
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("a child process without pipes")  # cannot be: both were asked for
        self.process, self.requests, self.answers = process, process.stdin, process.stdout
        self.ask({"target": job.target, "args": dict(job.args)})

    def ask(self, request: object) -> dict[str, Any]:
        with contextlib.suppress(BrokenPipeError):  # of a child that died: then there is no answer either
            self.requests.write(json.dumps(request) + "\n")
            self.requests.flush()
        line = self.answers.readline()
        if not line:
            raise RuntimeError(f"{self.job.target}({dict(self.job.args)}) failed; its traceback is above")
        return json.loads(line)

    def close(self) -> None:
        self.requests.close()
        self.answers.close()
        self.process.wait()


def _serve() -> None:
    # Whatever a library prints must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**values: object) -> None:
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    job = json.loads(sys.stdin.readline())
    module, _, function = job["target"].partition(":")
    workload: Workload = getattr(importlib.import_module(module), function)(**job["args"])
    import torch

    torch.set_num_threads(1)
    start = _forget_high_water()
    calls = 1
    answer()
    for line in sys.stdin:
        match json.loads(line):
            case "run":
                faults, begin = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.process_time()
                for _ in range(calls):
                    workload.run()
                ms = 1e3 * (time.process_time() - begin) / calls
                faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
                answer(ms=ms, faults=faults // calls)
                calls = max(calls, math.ceil(TURN_MS / max(ms, 1e-2)))
            case "peak":
                answer(mb=(_memory("VmHWM") - start) / 1e6)
            case "saved":
                answer(mb=None if workload.loss is None else saved_bytes(workload.loss, workload.own) / 1e6)


def _forget_high_water() -> int:
    """Set the high-water mark back to what is resident now, where the kernel allows it; return the mark."""
    with contextlib.suppress(OSError):  # refused: then growth is counted from the highest point of the imports
        Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmHWM")


def _memory(entry: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(entry):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {entry} in /proc/self/status; memory can be measured on Linux only")


if __name__ == "__main__":
    _serve()
