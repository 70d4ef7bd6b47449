"""The inverse temperature: one a head, fixed or learned."""

import math
from typing import Any

import torch
from torch import Tensor, nn


class InverseTemperature(nn.Module):
    """beta of every head: a buffer that is not saved, or, learned, exp(log_beta) of a parameter.

    Shapes: () -> (heads,).

    Args:
        start: a number above 0 for each head.
        learn: learn log beta.
    """

    def __init__(
        self,
        start: tuple[float, ...],
        *,
        learn: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.start = tuple(map(float, start))
        self.learn = bool(learn)
        values = torch.empty(len(self.start), device=device, dtype=dtype)
        if self.learn:
            self.log_beta = nn.Parameter(values)
        else:
            self.register_buffer("beta", values, persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Every beta to its start."""
        if self.learn:
            _fill(self.log_beta, [math.log(value) for value in self.start])
        else:
            self.init_non_persistent_buffers()

    def init_non_persistent_buffers(self) -> None:
        """Fill what the state dict does not hold."""
        if not self.learn:
            _fill(self.beta, list(self.start))  # pyright: ignore[reportArgumentType]

    def _apply(self, fn: Any, recurse: bool = True) -> "InverseTemperature":
        """In another dtype the start is rounded anew, unless the buffer was changed by hand."""
        beta = None if self.learn else self.beta
        asis = isinstance(beta, Tensor) and not beta.is_meta and beta.tolist() == beta.new_tensor(self.start).tolist()
        super()._apply(fn, recurse)
        if asis and isinstance(self.beta, Tensor) and not self.beta.is_meta:
            self.init_non_persistent_buffers()
        return self

    def forward(self) -> Tensor:
        return self.log_beta.exp() if self.learn else self.beta  # pyright: ignore[reportReturnType]

    def extra_repr(self) -> str:
        numbers = self.start[:1] if len(set(self.start)) == 1 else self.start
        return f"{', '.join(f'{value:.4g}' for value in numbers)}{', learned' if self.learn else ''}"


@torch.no_grad()
def _fill(target: Tensor, values: list[float]) -> None:
    for place, value in zip(target.unbind(), values, strict=True):
        place.fill_(value)
