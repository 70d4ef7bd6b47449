"""One run in a process of its own: its memory is its own, and when it dies the others go on."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import signal
import statistics
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from zoo.errors import TrainingError, ZooError
from zoo.files import write_json
from zoo.registry import Entry, default_registry
from zoo.training.peak_memory import PeakMemory
from zoo.training.signals import StopRequest

#: Imported before memory is measured; what is missing is not needed.
_WARM = (
    "zoo.factory",
    "zoo.publish",
    "zoo.training.finetuning",
    "zoo.training.loop",
    "torchmetrics.classification",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
)


@dataclass(frozen=True)
class Job:
    """What a process shall do.

    Attributes:
        record: JSON file for what came out.
        arguments: of `zoo.finetune`, all of them.
        monitor: the metric to report.
        entries: what the user registered in this process, to be known in that one.
    """

    record: Path
    arguments: Mapping[str, Any]
    monitor: str
    entries: tuple[Entry, ...] = field(default=())


def users_entries() -> tuple[Entry, ...]:
    """What was registered by the running program and can be sent to another process."""
    registry = default_registry()
    mine = (e for e in (*registry.models, *registry.modules) if e.source == "user")
    return tuple(e for e in mine if why_not_sent(e) is None)


def why_not_sent(value: Any) -> str | None:
    """Why a value cannot be sent to another process, or `None` if it can."""
    try:
        ForkingPickler.dumps(value)
    except Exception as error:  # whatever an object's own reduction raises
        return str(error) or type(error).__name__
    return None


def read_record(path: Path) -> dict[str, Any] | None:
    """What a run left in its record; `None` without one."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None


def run_apart(job: Job, stop: StopRequest) -> dict[str, Any]:
    """Do a job in a new process and wait for it; `stop` is passed on, and the run then leaves a checkpoint.

    Returns:
        The record; with `error` when the run failed.

    Raises:
        TrainingError: processes cannot be started from here at all.
    """
    job.record.unlink(missing_ok=True)
    process = multiprocessing.get_context("spawn").Process(target=_work, args=(job,))
    with _interrupts_held():
        process.start()
    try:
        told = False
        while process.is_alive():
            process.join(0.2)
            if stop.signal is not None and not told:
                process.terminate()
                told = True
    finally:
        if process.is_alive():  # a second Ctrl-C
            process.kill()
            process.join()
    record = read_record(job.record)
    if record is not None:
        return record
    code = process.exitcode or 0
    if code < 0:
        name = signal.Signals(-code).name
        return {"error": f"the process was ended by {name}{' (out of memory?)' if name == 'SIGKILL' else ''}"}
    if stop.signal is None and not Path(job.arguments["out"]).exists():
        raise TrainingError(
            f"a process for a run could not begin (exit code {code}; its words are above). It imports your script: "
            "call zoo.compare under `if __name__ == '__main__':`, and define classes of your own in a file that can be "
            "imported"
        )
    return {"error": f"the process ended with exit code {code}"}


def only_here(values: Iterable[Any]) -> bool:
    """Whether the runs must take place in this process.

    So it is when one of the classes or functions exists here alone, typed into a notebook or a prompt; and in a script
    that is read from a pipe (`python - < script.py`), whose file `<stdin>` another process would look for in vain.
    """
    file = getattr(sys.modules["__main__"], "__file__", None)
    if file is not None:
        return not Path(file).exists()
    return any(getattr(v, "__module__", "") == "__main__" for v in values)


def run_here(job: Job) -> dict[str, Any]:
    """Do a job in this process; its memory is what the process grew by."""
    job.record.unlink(missing_ok=True)
    _measure(job)
    return read_record(job.record) or {"error": "the run left no record"}


def _work(job: Job) -> None:
    """The other process."""
    _leave_terminal()
    for entry in job.entries:
        default_registry().add(entry, override=True)
    _measure(job)


def _measure(job: Job) -> None:
    for name in (*_WARM, *(["sklearn.datasets"] if job.arguments["data"] == "digits" else [])):
        with suppress(ImportError):
            importlib.import_module(name)
    from zoo.training.finetuning import finetune

    memory = PeakMemory()
    try:
        result = finetune(**job.arguments)
    except Exception as error:
        kind = "" if isinstance(error, ZooError | ValueError) else f"{type(error).__name__}: "
        write_json(job.record, {"error": f"{kind}{error}", "traceback": traceback.format_exc()})
        return
    peak, of = memory()
    write_json(
        job.record,
        {
            "metric": job.monitor,
            "value": result.metrics.get(job.monitor),
            "split": result.metrics["split"],
            "samples": result.metrics["samples"],
            "metrics": result.metrics,
            "epochs": len(result.history),
            "best_epoch": result.best_epoch,
            "seconds_per_epoch": statistics.median(row["seconds"] for row in result.history),
            "peak_memory": peak,
            "memory_of": of,
        },
    )


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """A process started in here begins deaf to Ctrl-C, which the terminal sends to it, too."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _leave_terminal() -> None:
    """Let the parent alone hear Ctrl-C: it passes on one request to stop, which outside the loop ends the process."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
