"""Running a model over a whole set: logits in the set's order, gathered from all processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from zoo.errors import TrainingError
from zoo.models.class_scores import as_logits
from zoo.training.data.bags_batch import answer
from zoo.training.data.image_set import ImageSet
from zoo.training.data.loader import batches, eval_plan
from zoo.training.float32 import float32_kept
from zoo.training.metrics import measure_answers


def check_logits(output: Any, images: int, classes: int, noun: str = "image") -> Tensor:
    """The logits (B, K) of a model's output.

    Raises:
        TrainingError: anything but a tensor of that shape.
    """
    if isinstance(output, Tensor) and output.shape == (images, classes):
        return output
    got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    raise TrainingError(
        f"the model answered {got} to {images} {noun}s of {classes} classes; expected logits ({images}, {classes})"
    )


def check_finite(logits: Tensor, indices: list[int], data: ImageSet) -> None:
    """Refuse answers with NaN or infinity.

    Raises:
        TrainingError: naming an image.
    """
    good = torch.isfinite(logits).all(1)
    if not bool(good.all()):
        where = data.where(indices[int((~good).nonzero()[0])])
        raise TrainingError(
            f"the model's answer to {where} is not finite: it has diverged (lower lr, --lr; set clip_grad, "
            f"--clip-grad; lengthen warmup_epochs, --warmup-epochs), or the {data.noun} is not finite"
        )


@torch.inference_mode()
def all_logits(
    model: nn.Module,
    data: ImageSet,
    pipeline: Callable[[Any, str], Any],
    accelerator: Accelerator,
    *,
    batch_size: int,
    workers: int = 0,
    tick: Callable[[int], None] = lambda images: None,
    width: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Logits (N, K) and targets of every image, in order, on every process.

    The model runs in evaluation mode, under the accelerator's precision.

    Args:
        model: on the accelerator's device.
        data: the images.
        pipeline: how they are prepared.
        accelerator: of the run.
        batch_size: images at a time and process.
        workers: processes that read images.
        tick: called with the number of images done.
        width: columns that the model answers where these are not one a class.
    """
    model.eval()
    width = len(data.classes) if width is None else width
    world, rank = accelerator.num_processes, accelerator.process_index
    plan = eval_plan(len(data), batch_size=batch_size, rank=rank, world=world)
    logits, targets, places = [], [], []
    reduced = model if accelerator.mixed_precision != "no" else None
    for batch in batches(data, pipeline, plan, workers=workers, pin=accelerator.device.type == "cuda"):
        moved = batch.to(accelerator.device)
        with float32_kept(reduced), accelerator.autocast():
            output = as_logits(model, answer(model, moved.images))
        logits.append(check_logits(output, len(batch), width, data.noun).float())
        check_finite(logits[-1], batch.indices, data)
        targets.append(moved.targets)
        places.append(torch.tensor(batch.indices, device=accelerator.device))
        tick(len(batch))
    device = accelerator.device
    shape = (0, *data.labels.shape[1:])
    mine = (
        torch.cat(logits) if logits else torch.zeros(0, width, device=device),
        torch.cat(targets) if targets else torch.as_tensor(data.labels[:0], device=device).reshape(shape),
        torch.cat(places) if places else torch.zeros(0, dtype=torch.int64, device=device),
    )
    if world > 1:
        padded = [accelerator.pad_across_processes(part) for part in mine[:2]]
        place = accelerator.pad_across_processes(mine[2], pad_index=-1)
        everything: Any = [accelerator.gather(part) for part in (*padded, place)]
        real = everything[2] >= 0
        mine = tuple(part[real] for part in everything)
    sorting = mine[2].argsort()
    return mine[0][sorting].cpu(), mine[1][sorting].cpu()


def measure(model: nn.Module, data: ImageSet, *args: Any, **options: Any) -> dict[str, Any]:
    """The metrics of a model on a set; arguments as of `all_logits`."""
    logits, targets = all_logits(model, data, *args, **options)
    return measure_answers(logits, targets, multi_label=data.multi_label, ordinal=data.ordinal)
