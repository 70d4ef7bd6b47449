"""Where a run stands: stored in every checkpoint, and taken up again from there."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from zoo.errors import TrainingError
from zoo.training.checkpoint import read_optimiser, read_state, read_tensors, save_checkpoint, versions
from zoo.training.lora import fingerprint

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
        model=_stored(loop, loop.model),
        ema=None if loop.ema is None else _stored(loop, loop.ema.module),
        optimiser=loop.optimiser.state_dict(),
        state={
            "position": asdict(loop.at),
            "options": loop.options.as_json(),
            "data": loop.splits.fingerprint(),
            "processes": loop.accelerator.num_processes,
            "identity": loop.identity,
            "fixed": _fixed(loop),
            "teacher": _teacher(loop),
            "scaler": None if scaler is None else scaler.state_dict(),
            "versions": versions(),
        },
        keep_last=loop.options.keep_last,
    )


def _stored(loop: Loop, model: nn.Module) -> dict[str, Tensor]:
    """What a checkpoint holds of a model: with LoRA, the fixed weights are left out."""
    state = model.state_dict()
    if loop.adapters is None:
        return state
    fixed = dict(model.named_parameters()).keys() - loop.freeze.ever_trained()
    return {name: tensor for name, tensor in state.items() if name not in fixed}


def _fixed(loop: Loop) -> str | None:
    """A digest of what checkpoints leave out."""
    if loop.adapters is None:
        return None
    trained = loop.freeze.ever_trained()
    return fingerprint({name: p for name, p in loop.model.named_parameters() if name not in trained})


def _teacher(loop: Loop) -> str | None:
    """A digest of the teacher, which no checkpoint holds."""
    return None if loop.teacher is None else loop.teacher.fingerprint


def _restore(loop: Loop, model: nn.Module, tensors: dict[str, Tensor]) -> None:
    if loop.adapters is None:
        model.load_state_dict(tensors)
        return
    model.load_state_dict({**model.state_dict(), **tensors})


def resume_run(loop: Loop, path: Path) -> None:
    """Put a run back to a checkpoint.

    Raises:
        TrainingError: other settings, other data, another number of processes, another model, a damaged file.
    """
    state = read_state(path)
    now = loop.accelerator.num_processes
    if state["processes"] != now:  # first: the learning rate, for one, follows from it
        raise TrainingError(
            f"{path} was written by {state['processes']} process(es), this run has {now}: an update would see other "
            "images. Use as many, or take another out (--out)"
        )
    loop.options.check_resume(state["options"], loop.folder)
    if state["data"] != loop.splits.fingerprint():
        raise TrainingError(
            f"the data has changed since {path} was written (other classes, sizes or labels); take another out "
            "(--out), or start anew with resume=False (--no-resume)"
        )
    if state["fixed"] != _fixed(loop):
        raise TrainingError(
            f"the model's own weights are not those that the run in {loop.folder} began with, and with lora a "
            "checkpoint holds only what learns: give it the same model, or take another out (--out)"
        )
    if state.get("teacher") != _teacher(loop):
        raise TrainingError(
            f"the teacher's weights are not those that the run in {loop.folder} learned from: give it the same "
            "teacher, or take another out (--out)"
        )
    try:
        _restore(loop, loop.model, read_tensors(path / "model.safetensors"))
        if loop.ema is not None:
            _restore(loop, loop.ema.module, read_tensors(path / "ema.safetensors"))
        loop.optimiser.load_state_dict(read_optimiser(path, state["optimiser"]))
    except (RuntimeError, ValueError, KeyError) as error:
        if isinstance(error, TrainingError):
            raise
        raise TrainingError(f"{path} belongs to another model: {str(error).splitlines()[0]}") from error
    if loop.accelerator.scaler is not None and state["scaler"]:
        loop.accelerator.scaler.load_state_dict(state["scaler"])
    loop.at, loop.identity = Position(**state["position"]), state["identity"]
