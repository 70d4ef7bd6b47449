"""`zoo.evaluate_stitches`: the accuracy of every path of a stitched network, in one go."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, SupportsIndex

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from zoo.device import as_it_was, check_device
from zoo.errors import DataError, MissingExtraError, UnknownStitchError
from zoo.files import write_json
from zoo.models.class_scores import as_logits
from zoo.models.stitching.network import StitchNet
from zoo.naming import known_keywords
from zoo.training.data.loader import batches, eval_plan
from zoo.training.data.source import open_split
from zoo.training.evaluation import with_classes_of
from zoo.training.float32 import float32_kept
from zoo.training.model_source import model_name, ready_model
from zoo.training.options import check_batch_size
from zoo.training.preparation import pipeline_for
from zoo.training.progress import Progress

#: What a row says of a path, in the order of a table.
_FACTS = ("id", "anchors", "cuts", "stage", "flops", "macs", "params", "latency")


@known_keywords
def evaluate_stitches(
    net: Any,
    data: Any,
    split: str = "test",
    *,
    ids: Iterable[SupportsIndex] | None = None,
    batch_size: int = 64,
    scale: float | None = None,
    transform: Any = "auto",
    on_bad: str = "raise",
    workers: int = 0,
    device: str | None = None,
    amp: str = "no",
    out: str | os.PathLike[str] | None = None,
    remember: bool = False,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Measure many paths of a stitched network. What two of them begin with in common runs once a batch.

    Args:
        net: a stitched network, or what `zoo.evaluate` takes for one.
        data: anything that `zoo.finetune` takes; or a `DataLoader` of (images, class numbers), images as the network
            takes them.
        split: as of `zoo.evaluate`.
        ids: numbers of the paths; by default all, but those that have only a head left.
        batch_size, scale, transform, on_bad, workers, device, amp: as of `zoo.evaluate`.
        out: a new JSON file for the rows, which appears when all are there.
        remember: let the network know its accuracies, for `net.set_budget`.
        progress: show a bar on a terminal, and notes.

    Returns:
        for every path a row for `zoo.pareto`: `id`, `anchors`, `cuts`, `stage`, `flops`, `macs`, `params`, `latency`
        (None where not profiled), `top1` in percent and `samples`.

    Raises:
        UnknownStitchError: a number that no path has, or weights that `offload_unused` let go.
        DataError: data that cannot be read, several labels an image, or classes that are not the network's.
        TypeError: another model.
        FileExistsError: `out` is there already.
        MissingExtraError: without the extra `train`.
    """
    check_batch_size(batch_size)
    check_device(device)
    if out is not None and Path(out).exists():
        raise FileExistsError(f"{os.fspath(out)} is there already: results go into a new file")
    model = ready_model(net)
    if not isinstance(model, StitchNet):
        raise TypeError(f"evaluate_stitches measures stitched networks (zoo.stitch), {model_name(model)} is none")
    usable = [config.id for config in model._configs if config.usable or model.allow_empty_end]
    chosen = tuple(usable if ids is None else dict.fromkeys(model.config_of(number).id for number in ids))
    if not chosen:
        raise ValueError("ids names no path")
    for number in chosen:
        model.path_of(number)  # its weights are there
    if any(p.is_meta for p in model.parameters()):
        raise UnknownStitchError(
            "weights of other paths were let go by offload_unused(): measure this one by zoo.evaluate(net.export(), "
            "...), or bring all back with zoo.load_weights"
        )
    show = Progress(progress, 1)
    about: dict[str, Any] = {"model": model_name(model)}
    try:
        from zoo.training.engine import engine, resolve_amp
    except ImportError as error:
        raise MissingExtraError(
            "zoo.evaluate_stitches", getattr(error, "name", None) or "accelerate", "train"
        ) from error
    with as_it_was(model), engine(resolve_amp(amp, device), device) as accelerator:
        model.eval()
        if isinstance(data, DataLoader):
            pairs, total = _of_loader(data), 0
        else:
            opened = open_split(data, split, on_bad=on_bad)
            for note in opened.notes:
                show.note(note)
            images = with_classes_of(model, opened.images)
            if images.multi_label:
                raise DataError(f"{images.name} has several labels an image; top-1 accuracy needs one")
            about |= {"dataset": opened.name, "split": opened.split}
            pipeline = pipeline_for(model, images, transform=transform, scale=scale)
            world, rank = accelerator.num_processes, accelerator.process_index
            plan = eval_plan(len(images), batch_size=batch_size, rank=rank, world=world)
            found = batches(images, pipeline, plan, workers=workers, pin=accelerator.device.type == "cuda")
            pairs, total = ((batch.images, batch.targets) for batch in found), len(images)
        show.start(0, total, 0, f"measuring {len(chosen)} paths")
        try:
            counts = _count(model.to(accelerator.device), chosen, pairs, accelerator, show)
        finally:
            show.close()
        hits = accelerator.reduce(counts, "sum")
        first = accelerator.is_main_process
        *right, samples = hits.tolist()  # pyright: ignore[reportAttributeAccessIssue]
    if not samples:
        raise DataError("there is not one image to measure on")
    top1 = {number: 100 * count / samples for number, count in zip(chosen, right, strict=True)}
    known = {config.id: asdict(config) for config in model.stitches}
    rows = [
        {**{fact: known[number][fact] for fact in _FACTS}, "top1": top1[number], "samples": samples}
        for number in chosen
    ]
    if remember:
        model.top1 = {**model.top1, **top1}
    if out is not None and first:
        write_json(out, {**about, "samples": samples, "rows": rows})
    return rows


@torch.inference_mode()
def _count(model: StitchNet, ids: tuple[int, ...], pairs: Iterable[Any], accelerator: Any, show: Progress) -> Tensor:
    """For every path how many images it gets right, then how many there are."""
    counts = torch.zeros(len(ids) + 1, dtype=torch.int64, device=accelerator.device)
    reduced = model if accelerator.mixed_precision != "no" else None
    for images, targets in pairs:
        images, targets = images.to(accelerator.device), targets.to(accelerator.device)
        with float32_kept(reduced), accelerator.autocast():
            answers = model(images, stitch=ids)
        right = [(as_logits(model, answer).argmax(1) == targets).sum() for answer in answers]
        counts += torch.stack([*right, torch.tensor(len(targets), device=accelerator.device)])
        show.tick(len(targets))
    return counts


def _of_loader(loader: Iterable[Any]) -> Iterator[tuple[Tensor, Tensor]]:
    for batch in loader:
        if not (isinstance(batch, tuple | list) and len(batch) == 2 and all(isinstance(t, Tensor) for t in batch)):
            raise DataError("a loader for evaluate_stitches gives pairs of tensors (images, class numbers)")
        yield batch[0], batch[1]
