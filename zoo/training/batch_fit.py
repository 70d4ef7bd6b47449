"""`batch_size="auto"`: the largest batch whose training step fits into memory."""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from zoo.errors import OutOfMemoryError
from zoo.training.data.bags import BagSet
from zoo.training.data.loader import Batch, batches
from zoo.training.diagnose import is_out_of_memory
from zoo.training.freeze import train_mode
from zoo.training.options import Options
from zoo.training.randomness import derive, seed_all

if TYPE_CHECKING:
    from zoo.training.loop import Loop


def fit_batch(loop: Loop) -> Options:
    """The settings of a run with a batch that fits.

    Starting with the batch size that was asked for, a whole step (forward, backward, optimiser) is tried on the first
    images, or on the largest bags, which may once meet in a batch; when the device runs out of memory the batch is
    halved and `accum` doubled, so that an update sees as many images as before. Model, optimiser and random numbers are
    afterwards what they were.

    Raises:
        OutOfMemoryError: not even the smallest batch fits.
    """
    wanted = loop.options
    size = wanted.batch_size
    for size in _sizes(wanted.batch_size, 2 if loop.mixup else 1):
        loop.options = replace(wanted, batch_size=size, accum=wanted.accum * (wanted.batch_size // size))
        if _fits_everywhere(loop):
            if size < wanted.batch_size:
                loop.progress.note(
                    f"out of memory with batches of {wanted.batch_size}: batch_size={size}, accum={loop.options.accum}"
                )
            return loop.options
    raise OutOfMemoryError(
        f"out of memory on {loop.accelerator.device} even with batch_size={size}. Remedies: amp='bf16' (--amp bf16); "
        "model.set_grad_checkpointing() before a call in Python; a smaller img_size (--img-size) or model; "
        "freeze='backbone' (--freeze backbone)"
    )


def _sizes(largest: int, smallest: int) -> Iterator[int]:
    """Divisors of `largest`, each at most half of the one before."""
    size = largest
    while True:
        yield size
        smaller = [d for d in range(smallest, size // 2 + 1) if largest % d == 0 and d % smallest == 0]
        if not smaller:
            return
        size = max(smaller)


def _fits_everywhere(loop: Loop) -> bool:
    """Whether a step of the present settings fits in every process; leaves no trace."""
    model, accelerator = loop.model, loop.accelerator
    # With accumulation, the second batch meets the gradients of the first.
    step = loop.plan(0)[0][:2]
    if isinstance(loop.train, BagSet):
        step = [loop.train.largest[: len(batch)] for batch in step]
    images = list(batches(loop.train, loop.train_pipeline, step, seed=loop.options.seed))
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    before = {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
    optimiser = copy.deepcopy(loop.optimiser.state_dict())
    try:
        _step(loop, images)
        fits = True
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        fits = False
    loop.optimiser.zero_grad()
    loop.optimiser.load_state_dict(optimiser)
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(before[name])
    gc.collect()  # what the traceback of the error held
    if accelerator.device.type == "cuda":
        torch.cuda.empty_cache()
    count = accelerator.reduce(torch.tensor(float(fits), device=accelerator.device), "sum")
    return int(count) == accelerator.num_processes  # type: ignore[arg-type] - a tensor in, a tensor out


def _step(loop: Loop, images: list[Batch]) -> None:
    """A step of this process alone: if memory runs out here, no other process waits."""
    train_mode(loop.model)
    seed_all(derive(loop.options.seed, "fit"))
    for batch in images:
        paths = None if loop.stitching is None else loop.stitching.dearest
        loss = loop.batch_loss(batch.to(loop.accelerator.device), loop.alone, paths)
        loop.accelerator.backward(loss)
    loop.optimiser.optimizer.step()
