"""Gradient checkpointing that leaves batch statistics as an ordinary pass would."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def kept_statistics(module: nn.Module) -> Iterator[None]:
    """Put the running statistics of batch norms back as they were."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._NormBase) and m.training]
    before = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers(recurse=False)]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)


def checkpoint_block(block: nn.Module, x: Tensor) -> Tensor:
    """`block(x)`, recomputed in the backward pass; the second run does not count for running statistics."""
    if torch.compiler.is_compiling():
        return checkpoint(block, x, use_reentrant=False)  # pyright: ignore[reportReturnType]
    return checkpoint(  # pyright: ignore[reportReturnType]
        block, x, use_reentrant=False, context_fn=lambda: (nullcontext(), kept_statistics(block))
    )
