"""Explaining what stopped a run: where a NaN came from, what to do when memory ran out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import NonFiniteLossError, OutOfMemoryError
from zoo.training.data.bags_batch import Bags, answer
from zoo.training.data.image_set import ImageSet
from zoo.training.data.loader import Batch
from zoo.training.data.token_batch import Tokens
from zoo.training.disk import in_words
from zoo.training.peak_memory import high_water


def non_finite(
    model: nn.Module,
    batch: Batch,
    data: ImageSet,
    *,
    place: str,
    lr: float,
    norm: float | None,
    paths: tuple[int, ...] | None = None,
) -> str:
    """Say what became NaN or infinite first: the images, a parameter, or a module's output.

    Runs the model once more on `batch` with hooks, which are there only after a failure.
    """
    lines = [f"the loss is not finite at {place}, lr {lr:.3g}"]
    if norm is not None:
        lines.append(f"gradient norm of the update before {norm:.3g}")
    bad = [i for i, ok in zip(batch.indices, _finite_rows(batch.images), strict=True) if not ok]
    if bad:
        lines.append(f"the input itself is not finite: {data.where(bad[0])}")
    elif (name := next((n for n, p in model.named_parameters() if not torch.isfinite(p).all()), None)) is not None:
        lines.append(f"the parameter {name!r} is not finite: the update before was too large")
        lines.append("lower lr (--lr), lengthen warmup_epochs (--warmup-epochs) or set clip_grad (--clip-grad)")
    else:
        name = first_bad_module(model, batch.images, paths)
        lines.append(
            f"first module with a non-finite output: {name!r}"
            if name
            else "every module's output is finite: the loss itself overflowed (check class_weights, --class-weights)"
        )
        lines.append(
            "lower lr (--lr), set clip_grad (--clip-grad), or pass amp='no' (--amp no) if a reduced precision is on"
        )
    lines.append(f"{data.noun}s of the batch: {', '.join(data.where(i) for i in batch.indices[:3])}, …")
    return "; ".join(lines)


@torch.no_grad()
def first_bad_module(
    model: nn.Module, images: Tensor | Bags | Tokens, paths: tuple[int, ...] | None = None
) -> str | None:
    """Dotted path of the first module, in order of execution, whose output has NaN or infinity."""
    found: list[str] = []

    def hook(name: str) -> Any:
        def look(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and not found and not torch.isfinite(output).all():
                found.append(name)

        return look

    handles = [m.register_forward_hook(hook(n)) for n, m in model.named_modules() if n]
    try:
        answer(model, images, paths)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def check_gradients(model: nn.Module, norm: float, place: str, lr: float) -> None:
    """Refuse an update with non-finite gradients.

    Raises:
        NonFiniteLossError: naming the first parameter concerned.
    """
    if norm == norm and norm not in (float("inf"), float("-inf")):
        return
    named = ((n, p.grad) for n, p in model.named_parameters() if p.grad is not None)
    name = next((n for n, grad in named if not torch.isfinite(grad).all()), None)
    where = f"first in {name!r}" if name else "their norm overflowed"
    raise NonFiniteLossError(
        f"the loss is finite but its gradients are not at {place}, lr {lr:.3g} ({where}); "
        "lower lr (--lr), lengthen warmup_epochs (--warmup-epochs), or pass amp='no' (--amp no) if a reduced precision "
        "is on"
    )


def _finite_rows(images: Tensor | Bags | Tokens) -> list[bool]:
    if isinstance(images, Tokens):
        return [True] * len(images.lengths)
    if isinstance(images, Bags):
        return [bool(torch.isfinite(bag).all()) for bag in images.by_bag(images.instances)]
    return torch.isfinite(images.flatten(1)).all(1).tolist()


@contextmanager
def explained_memory(batch_size: int, accum: int, device: torch.device) -> Iterator[None]:
    """Turn torch's out-of-memory errors into one that says what to do.

    Raises:
        OutOfMemoryError: with the batch size, the peak so far and three remedies.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        most = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else high_water()
        peak = "" if most is None else f" (peak {in_words(most)})"
        smaller = (
            f"batch_size={batch_size // 2} with accum={accum * 2} (--batch-size, --accum: the same updates, half the "
            "memory), or batch_size='auto'; "
            if batch_size > 1
            else ""
        )
        raise OutOfMemoryError(
            f"out of memory on {device} with batch_size={batch_size}{peak}. Remedies: {smaller}"
            "amp='bf16' (--amp bf16); model.set_grad_checkpointing() before a call in Python"
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch could not get the memory that it asked for, on a device or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator: can't allocate" in str(error)
