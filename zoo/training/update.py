"""One update: forward, backward and optimiser over one or several batches, and what is done when it is not finite."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zoo.errors import NonFiniteLossError
from zoo.models.class_scores import as_logits
from zoo.training import diagnose
from zoo.training.data.bags_batch import Bags, answer
from zoo.training.data.loader import Batch
from zoo.training.forward import check_logits
from zoo.training.randomness import derive, seed_all

if TYPE_CHECKING:
    from zoo.training.loop import Loop

#: Updates that may be left out one after the other.
MOST_SKIPPED = 5


def update(loop: Loop, step: list[Batch]) -> float | None:
    """One update from one or several batches; the mean loss over all processes, or None if it was left out."""
    at, o, accelerator = loop.at, loop.options, loop.accelerator
    # A forward pass writes into batch norm's statistics, whatever comes of it.
    before = {n: b.clone() for n, b in loop.model.named_buffers()} if o.on_nan == "skip" else {}
    loop.schedule.step_update(at.step)
    loop.optimiser.zero_grad()
    total, losses = sum(map(len, step)), []
    for number, batch in enumerate(step):
        seed_all(derive(o.seed, "step", at.step, number, accelerator.process_index))
        batch = batch.to(accelerator.device)
        last = number == len(step) - 1
        with nullcontext() if last else accelerator.no_sync(loop.net):
            loss = loop.batch_loss(batch, loop.net, loop.paths(number)) * (len(batch) / total)
            losses.append(loss.detach())
            accelerator.backward(loss)
    if loop.adapters is not None and at.step == 0:
        loop.adapters.check_used(loop.model)
    reduced: Any = accelerator.reduce(torch.stack(losses).sum(), "mean")
    mean = float(reduced)
    try:
        _check_finite(loop, step, losses, mean)
    except NonFiniteLossError as error:
        _leave_out(loop, error, before)
        return None
    at.skipped_in_row = 0
    loop.optimiser.step()
    if loop.ema is not None:
        loop.ema.update(loop.model, step=at.step + 1)
    return mean


def _check_finite(loop: Loop, step: list[Batch], losses: list[Tensor], mean: float) -> None:
    """Refuse a loss or gradients with NaN or infinity, in whichever process; clips the gradients on the way.

    Raises:
        NonFiniteLossError: the same in every process; it says where the NaN came from.
    """
    at, o, accelerator = loop.at, loop.options, loop.accelerator
    place = f"epoch {at.epoch + 1}, update {at.step + 1}"
    if not math.isfinite(mean):
        number = next((i for i, x in enumerate(losses) if not math.isfinite(float(x))), None)
        if number is None and accelerator.num_processes > 1:
            raise NonFiniteLossError(f"the loss is not finite at {place}, lr {loop.lr:.3g}, in another process")
        number = len(step) - 1 if number is None else number
        guilty, paths = step[number].to(accelerator.device), loop.paths(number)
        raise NonFiniteLossError(
            diagnose.non_finite(loop.model, guilty, loop.train, place=place, lr=loop.lr, norm=loop.norm, paths=paths)
        )
    limit = math.inf if o.clip_grad is None and o.on_nan == "skip" else o.clip_grad
    if limit is not None:
        norm: Any = accelerator.clip_grad_norm_(loop.model.parameters(), limit)
        if accelerator.scaler is None:  # a float16 scaler expects overflows and skips those updates itself
            diagnose.check_gradients(loop.model, float(norm), place, loop.lr)
        loop.norm = float(norm)


def _leave_out(loop: Loop, error: NonFiniteLossError, buffers: dict[str, Tensor]) -> None:
    """Take back an update that is not finite, if that is wanted and there were not too many in a row.

    Raises:
        NonFiniteLossError: the one given, otherwise.
    """
    at = loop.at
    if loop.options.on_nan == "raise":
        raise error
    if at.skipped_in_row >= MOST_SKIPPED:
        raise NonFiniteLossError(
            f"{error}; the {MOST_SKIPPED} updates before it were left out (on_nan='skip'): something else is wrong"
        ) from None
    with torch.no_grad():
        for name, buffer in loop.model.named_buffers():
            buffer.copy_(buffers[name])
    loop.optimiser.zero_grad()
    at.skipped, at.skipped_in_row = at.skipped + 1, at.skipped_in_row + 1
    said = any(row.get("skipped") for row in at.history) or at.skipped > 1
    loop.progress.note(f"left out: {str(error).split(';')[0] if said else error}")


def batch_loss(loop: Loop, batch: Batch, net: nn.Module, paths: tuple[int, ...] | None = None) -> Tensor:
    """The loss of one batch; the mean over the outputs of models that give several in training, or over `paths`."""
    images, targets = batch.images, batch.targets
    if loop.mixup is not None and not isinstance(images, Bags):
        images, targets = loop.mixup(images, targets)
    outputs = _flat(answer(net, images, paths))
    taught = None
    if loop.teacher is not None:
        with loop.accelerator.autocast():
            taught = loop.teacher(images, batch)
    k = len(loop.train.classes)

    def loss_of(out: Any) -> Tensor:
        logits = check_logits(as_logits(loop.model, out), len(batch), k, loop.train.noun)
        base = loop.loss(logits, targets) if loop.own_loss is None else loop.own_loss(out, targets)
        return base if loop.teacher is None or taught is None else loop.teacher.loss(base, logits, taught)

    losses = [loss_of(out) for out in outputs]
    return sum(losses[1:], losses[0]) / len(losses)


def _flat(output: Any) -> list[Any]:
    """The outputs one by one: a path of a stitched model may give several itself."""
    return [one for part in output for one in _flat(part)] if isinstance(output, tuple | list) else [output]
