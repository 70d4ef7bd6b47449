"""Where a run stands: stored in every checkpoint, and taken up again from there."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import TrainingError
from zoo.training.checkpoint import read_optimiser, read_state, read_tensors, save_checkpoint, versions

if TYPE_CHECKING:
    from zoo.training.loop import Loop


@dataclass
class Position:
    """Where a run stands; stored in every checkpoint.

    Attributes:
        epoch: finished epochs.
        step_in_epoch: finished updates of the current epoch.
        step: finished updates in all.
        images: learned from in the current epoch, over all processes.
        loss_sum: of those images.
        seconds: spent on training in the current epoch.
        skipped: updates of the current epoch that were left out, not being finite.
        skipped_in_row: the last of them, up to now.
        best: score of the best epoch: the monitored metric (negated if lower is better), then minus the loss.
        best_epoch: the finished epochs when it was reached.
        history: one row an epoch.
        finished: the run is over.
    """

    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    images: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    skipped: int = 0
    skipped_in_row: int = 0
    best: list[float] | None = None
    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    finished: bool = False


def save_run(loop: Loop) -> None:
    """Write a checkpoint of a run."""
    scaler = loop.accelerator.scaler
    save_checkpoint(
        loop.folder / "checkpoints",
        loop.at.step,
        model=loop.model.state_dict(),
        ema=None if loop.ema is None else loop.ema.module.state_dict(),
        optimiser=loop.optimiser.state_dict(),
        state={
            "position": asdict(loop.at),
            "options": loop.options.as_json(),
            "data": loop.splits.fingerprint(),
            "processes": loop.accelerator.num_processes,
            "identity": loop.identity,
            "scaler": None if scaler is None else scaler.state_dict(),
            "versions": versions(),
        },
        keep_last=loop.options.keep_last,
    )


def resume_run(loop: Loop, path: Path) -> None:
    """Put a run back to a checkpoint.

    Raises:
        TrainingError: other settings, other data, another number of processes, another model, a damaged file.
    """
    state = read_state(path)
    loop.options.check_resume(state["options"], loop.folder)
    if state["data"] != loop.splits.fingerprint():
        raise TrainingError(
            f"the data has changed since {path} was written (other classes, sizes or labels); take another out "
            "(--out), or start anew with resume=False (--no-resume)"
        )
    now = loop.accelerator.num_processes
    if state["processes"] != now:
        raise TrainingError(
            f"{path} was written by {state['processes']} process(es), this run has {now}: an update would see other "
            "images. Use as many, or take another out (--out)"
        )
    try:
        loop.model.load_state_dict(read_tensors(path / "model.safetensors"))
        if loop.ema is not None:
            loop.ema.module.load_state_dict(read_tensors(path / "ema.safetensors"))
        loop.optimiser.load_state_dict(read_optimiser(path, state["optimiser"]))
    except (RuntimeError, ValueError, KeyError) as error:
        if isinstance(error, TrainingError):
            raise
        raise TrainingError(f"{path} belongs to another model: {str(error).splitlines()[0]}") from error
    if loop.accelerator.scaler is not None and state["scaler"]:
        loop.accelerator.scaler.load_state_dict(state["scaler"])
    loop.at, loop.identity = Position(**state["position"]), state["identity"]
