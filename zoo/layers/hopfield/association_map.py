"""Which map makes associations of the scores, and its options, one a head or learned."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from zoo.layers.hopfield.maps import ASSOCIATIONS, DEFAULTS
from zoo.layers.hopfield.options import check_choice, per_head, positive_int

#: Nearest to the ends of (1, 2) that a learned alpha starts.
_EDGE = 1e-4


class AssociationMap(nn.Module):
    """The name of a map of `associate`, with alpha as a number, one a head, or learned as 1 + sigmoid(raw_alpha).

    Args:
        association: see `associate`.
        num_heads: heads.
        alpha: of "entmax", from 1, a number or one a head; of "normmax", above 1.
        learn_alpha: learn alpha of "entmax" in (1, 2), one a head; a start of 1 or 2 is moved inside by 1e-4.
        k: of "budget" and "topk".

    Raises:
        ValueError, TypeError: an unknown map, an option that it does not have, or one out of range.
    """

    def __init__(
        self,
        association: str,
        num_heads: int,
        *,
        alpha: Any = None,
        learn_alpha: bool = False,
        k: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_choice("association", association, ASSOCIATIONS)
        known = DEFAULTS[association]
        for name, value in {"alpha": alpha, "k": k}.items():
            if value is not None and name not in known:
                having = ", ".join(repr(other) for other, options in DEFAULTS.items() if name in options)
                raise ValueError(f"{name} is an option of association {having}, not of {association!r}; got {value}")
        if learn_alpha and association != "entmax":
            raise ValueError(f"learn_alpha needs association='entmax', got {association!r}")
        self.association = association
        self.learn_alpha = bool(learn_alpha)
        self.k = None if "k" not in known else positive_int("k", int(known["k"]) if k is None else k)
        self.start: tuple[float, ...] = ()
        if "alpha" in known:
            self.start = tuple(map(float, per_head("alpha", known["alpha"] if alpha is None else alpha, num_heads)))
            self._check_alpha(alpha)
        self.differs = len(set(self.start)) > 1
        values = torch.empty(len(self.start), device=device, dtype=dtype)
        if self.learn_alpha:
            self.raw_alpha = nn.Parameter(values)
        elif self.differs:
            self.register_buffer("alpha", values, persistent=False)
        self.reset_parameters()

    def _check_alpha(self, given: Any) -> None:
        low, high = min(self.start), max(self.start)
        if self.association == "normmax":
            if len(set(self.start)) > 1 or not low > 1:
                raise ValueError(f"alpha of association 'normmax' must be one number above 1, got {given}")
        elif low < 1 or (self.learn_alpha and high > 2):
            allowed = "from 1 to 2 to be learned" if self.learn_alpha else "at least 1"
            raise ValueError(f"alpha of association 'entmax' must be {allowed}, got {given}")

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Every alpha to its start."""
        self.init_non_persistent_buffers()
        if self.learn_alpha:
            for place, value in zip(self.raw_alpha.unbind(), self.start, strict=True):
                inside = min(max(value - 1, _EDGE), 1 - _EDGE)
                place.fill_(math.log(inside / (1 - inside)))

    @torch.no_grad()
    def init_non_persistent_buffers(self) -> None:
        """Fill what the state dict does not hold."""
        if self.differs and not self.learn_alpha:
            for place, value in zip(self.alpha.unbind(), self.start, strict=True):  # pyright: ignore
                place.fill_(value)

    def forward(self) -> Tensor | float | None:
        """alpha: a tensor of one a head, one number, or None for a map without."""
        if self.learn_alpha:
            return 1 + self.raw_alpha.sigmoid()
        if self.differs:
            return self.alpha  # pyright: ignore[reportReturnType]
        return self.start[0] if self.start else None

    def extra_repr(self) -> str:
        parts = [repr(self.association)]
        if self.start:
            numbers = self.start if self.differs else self.start[:1]
            parts.append(f"alpha={', '.join(f'{value:.4g}' for value in numbers)}")
        parts += ["learned"] * self.learn_alpha + ([f"k={self.k}"] if self.k else [])
        return ", ".join(parts)
