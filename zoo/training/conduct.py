"""A run from its folder to its result, whatever it learns."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import nn

from zoo.errors import MissingExtraError
from zoo.files import write_json
from zoo.training.checkpoint import checkpoints, prune, read_state
from zoo.training.data.labels import some
from zoo.training.disk import explained_disk
from zoo.training.engine import engine, untouched
from zoo.training.float32 import float32_kept
from zoo.training.metrics import flat, numbers
from zoo.training.options import Options
from zoo.training.out_folder import clear_leftovers, clear_run
from zoo.training.persistence import resume_run
from zoo.training.progress import Progress
from zoo.training.recorded import arguments, tracked
from zoo.training.result import Result
from zoo.training.run_folder import choose_folder, load_best, write_history
from zoo.training.signals import StopRequest
from zoo.training.tracking import Tracking

if TYPE_CHECKING:
    from zoo.training.loop import Loop

#: Bytes that a file of settings or metrics takes at most.
_SMALL = 64 * 1024


def shared_folder(
    accelerator: Accelerator, out: str | os.PathLike[str] | None, model: str, data: str, options: Options
) -> Path:
    """The folder of a run, as the first process says: a folder that it has just made looks taken to the others."""
    chosen: list[Any] = [choose_folder(out, model, data, options) if accelerator.is_main_process else None]
    return broadcast_object_list(chosen)[0]


class Begun(NamedTuple):
    """A run before its loop is made.

    Attributes:
        accelerator: of the run.
        folder: of the run.
        options: its settings, as an earlier part of the run had them.
        goes_on: whether there is such a part.
        give_back: takes off the model what was put onto it.
    """

    accelerator: Accelerator
    folder: Path
    options: Any
    goes_on: bool
    give_back: Callable[[], None]


@contextmanager
def begun(
    net: nn.Module,
    options: Options,
    given: Mapping[str, Any],
    *,
    name: str,
    data: str,
    beside: nn.Module | None = None,
    unused: bool = False,
) -> Iterator[Begun]:
    """Precision, processes and folder of a run; at the end the model is as it was but for what it learned.

    Args:
        net: the model.
        options: the settings.
        given: what `zoo.finetune` was given.
        name: of the model.
        data: name of the data.
        beside: another model that is asked in training.
        unused: parameters may sit out an update.
    """
    models = (net, beside) if options.amp != "no" else ()
    with (
        float32_kept(*models),
        untouched(net) as give_back,
        engine(options.amp, given["device"], unused_parameters=unused) as accelerator,
    ):
        folder = shared_folder(accelerator, given["out"], name, data, options)
        saved = checkpoints(folder / "checkpoints")
        goes_on = bool(saved) and given["resume"] is not False
        if goes_on:
            options = options.like(read_state(saved[-1])["options"])
        yield Begun(accelerator, folder, options, goes_on, give_back)


def conduct(
    loop: Loop, name: str, given: Mapping[str, Any], trackers: Any, *, before_end: Callable[[], None]
) -> Result:
    """Begin or resume a run, train, and measure the best of it.

    Args:
        loop: of the run.
        name: of the model.
        given: what `zoo.finetune` was given.
        trackers: of the run.
        before_end: called when nothing is trained any more.
    """
    show, folder, accelerator = loop.progress, loop.folder, loop.accelerator
    show.note(_headline(name, loop))
    try:
        _prepare_folder(folder, given["resume"], loop, show)
        if accelerator.is_main_process:
            with explained_disk(folder / "args.json", _SMALL):
                write_json(folder / "args.json", arguments(given, loop.model, loop.splits, loop.options, accelerator))
        # A finished run that is only given again was recorded when it ran.
        loop.tracking = Tracking(
            [] if loop.at.finished else trackers,
            accelerator,
            folder,
            loop.identity,
            tracked(name, loop.splits, loop.options),
            show,
        )
        loop.callbacks = tuple(given["callbacks"])
        with StopRequest() as stop:
            loop.run(stop)
        # What is saved, compared and returned is the model itself, without autocast around its forward.
        before_end()
        if loop.adapters is not None:
            loop.adapters.take_off()
        return _conclude(loop, show)
    finally:
        show.close()
        loop.tracking.finish()
        loop.freeze.restore()


def _headline(name: str, loop: Loop) -> str:
    parameters = list(loop.model.parameters())
    everything, learning = (
        sum(p.numel() for p in some) for some in (parameters, [p for p in parameters if p.requires_grad])
    )
    part = "" if learning == everything else f" ({learning:,} learn)"
    counts = {split_name: len(split) for split_name, split in loop.splits.present().items()} | {"train": loop.samples}
    sizes = ", ".join(f"{count:,} {split_name}" for split_name, count in counts.items())
    o, data = loop.options, loop.splits.name
    return (
        f"{name}, {everything:,} parameters{part}; {data}: {sizes} {loop.train.noun}s, "
        f"{loop.about}; {o.opt}, lr {o.lr:.3g}, {loop.accelerator.device}"
        f"{'' if o.amp == 'no' else f', {o.amp}'}"
    )


def _prepare_folder(folder: Path, resume: str | bool, loop: Loop, show: Progress) -> None:
    """Resume the run in `folder`, or make room for a new one."""
    saved = checkpoints(folder / "checkpoints")
    loop.accelerator.wait_for_everyone()
    if resume is False:
        if loop.accelerator.is_main_process:
            clear_run(folder)
    elif saved:
        resume_run(loop, saved[-1])
        if loop.accelerator.is_main_process:
            # Before anything is written: the call may follow on a full disk, with a lower keep_last.
            clear_leftovers(folder)
            prune(folder / "checkpoints", loop.options.keep_last)
        at = loop.at
        where = f"epoch {at.epoch + 1}, update {at.step}" if not at.finished else "its end: nothing left to train"
        show.note(f"resuming {folder} at {where}")
    elif resume is True:
        raise FileNotFoundError(f"there is no checkpoint to resume in {folder / 'checkpoints'}")
    if loop.accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)


def _conclude(loop: Loop, show: Progress) -> Result:
    """Load the best weights, measure them once, write metrics and plots."""
    accelerator, splits, folder = loop.accelerator, loop.splits, loop.folder
    accelerator.wait_for_everyone()
    load_best(loop.model, folder)
    loop.settle()
    measured = {name: loop.measure(loop.model, split) for name, split in loop.to_measure().items()}
    final = next((name for name in ("test", "val", "train") if name in measured), None)
    metrics: dict[str, Any] = {}
    loop.keep(loop.model, final or "", measured.get(final or ""), verify=True)
    if final is not None:
        metrics = {"split": final, "dataset": splits.name, **numbers(measured[final])}
        absent = [loop.train.classes[k] for k in measured[final].get("auroc_absent", [])]
        if absent:
            show.note(f"no auroc: {some(absent)} has no {loop.train.noun} (or no other) in {final}")
        loop.tracking.log(
            {"epoch": loop.at.epoch, **{f"best_{final}_{k}": v for k, v in flat(measured[final]).items()}}
        )
    result = Result(
        model=loop.model.eval(),
        metrics=metrics,
        history=loop.at.history,
        folder=folder,
        monitor=loop.options.monitor,
        best_epoch=loop.at.best_epoch,
        val_metrics=measured.get("val"),
        test_metrics=measured.get("test"),
        classes=loop.train.classes,
    )
    if accelerator.is_main_process:
        write_history(folder, loop.at.history)
        with explained_disk(folder / "metrics.json", _SMALL):
            content = {"best_epoch": result.best_epoch, "classes": result.classes, **measured}
            write_json(folder / "metrics.json", content)
        try:
            result.plot()
        except MissingExtraError as error:
            show.note(f"no plots: {error}")
        if final is not None:
            value = metrics.get(loop.options.monitor)
            shown = "" if value is None else f"{loop.options.monitor} {value:.4f} on "
            show.note(
                f"best epoch {result.best_epoch}: {shown}{metrics['samples']} {final} {loop.train.noun}s; {folder}"
            )
            show.note(f"zoo report {folder} shows the run as a page")
    return result
