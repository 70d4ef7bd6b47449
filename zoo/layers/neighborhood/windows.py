"""Sizes of a neighbourhood attention call, brought into one form and checked at the border."""

from collections.abc import Sequence
from typing import NamedTuple, TypeGuard

from torch import Tensor

_AXES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


class Windows(NamedTuple):
    """Window of every axis: how many keys, how far apart, and whether only the past counts."""

    kernel_size: tuple[int, ...]
    dilation: tuple[int, ...]
    causal: tuple[bool, ...]

    @classmethod
    def of(
        cls,
        rank: int,
        kernel_size: int | Sequence[int],
        dilation: int | Sequence[int] | None = 1,
        causal: bool | Sequence[bool] = False,
    ) -> "Windows":
        """Spread single values over ``rank`` axes. ``dilation=None`` means 1, as in NATTEN.

        Raises ValueError or TypeError for a wrong count of values, a kernel below 2 or a dilation below 1.
        """
        if rank not in _AXES:
            raise ValueError(f"neighbourhood attention works on 1, 2 or 3 spatial axes, got {rank}")
        return cls(
            _sizes("kernel_size", kernel_size, rank, lowest=2),
            _sizes("dilation", 1 if dilation is None else dilation, rank, lowest=1),
            _flags("causal", causal, rank),
        )

    @property
    def rank(self) -> int:
        return len(self.kernel_size)

    def check_map(self, spatial: Sequence[int]) -> None:
        """Refuse a map that cannot hold one whole window on every axis."""
        axes = zip(_AXES[self.rank], spatial, self.kernel_size, self.dilation, strict=True)
        for name, size, kernel, dilation in axes:
            needed = kernel * dilation
            if needed <= size:
                continue
            ways = [f"a map with {name} >= {needed}"]
            if size // dilation >= 2:
                ways.append(f"kernel_size <= {size // dilation}")
            if size // kernel >= 1:
                ways.append(f"dilation <= {size // kernel}")
            raise ValueError(
                f"the window does not fit along {name}: kernel_size {kernel} x dilation {dilation} = {needed} > "
                f"{size} positions; use {' or '.join(ways)}"
            )

    def check_bias(self, bias: Tensor, heads: int) -> None:
        """Refuse a relative position bias of the wrong shape, or together with causal windows."""
        if any(self.causal):
            raise ValueError(
                f"a relative position bias is not defined for causal windows (causal={self.causal}); "
                "pass bias=None (rel_pos_bias=False in a module) or causal=False"
            )
        expected = (heads, *(2 * kernel - 1 for kernel in self.kernel_size))
        if tuple(bias.shape) != expected:
            raise ValueError(
                f"bias must have the shape (heads, 2K-1 per axis) = {expected} for kernel_size {self.kernel_size}, "
                f"got {tuple(bias.shape)}"
            )


def check_input(x: Tensor, rank: int, dim: int) -> Tensor:
    """Hand on the input of a layer, if it is a map of the right kind, channels last."""
    if x.ndim != rank + 2 or x.shape[-1] != dim:
        expected = ", ".join(("batch", *_AXES[rank], str(dim)))
        raise ValueError(f"the input must be ({expected}), channels last, got {tuple(x.shape)}")
    check_tokens(x, "the input")
    return x


def check_tokens(tensor: Tensor, name: str) -> None:
    """Refuse tokens that are not of a real floating type."""
    if not tensor.is_floating_point():
        raise TypeError(f"{name} must be a floating-point tensor, got {tensor.dtype}; convert it with .float() first")


def _sizes(name: str, value: int | Sequence[int], rank: int, lowest: int) -> tuple[int, ...]:
    values = (value,) * rank if _is_int(value) else _as_tuple(name, value, rank, "an int")
    for axis, item in zip(_AXES[rank], values, strict=True):
        if not _is_int(item):
            raise TypeError(f"{name} along {axis} must be an int, got {item!r}")
        if item < lowest:
            raise ValueError(f"{name} along {axis} must be >= {lowest}, got {item}")
    return values


def _flags(name: str, value: bool | Sequence[bool], rank: int) -> tuple[bool, ...]:
    values = (value,) * rank if isinstance(value, bool) else _as_tuple(name, value, rank, "a bool")
    for axis, item in zip(_AXES[rank], values, strict=True):
        if not isinstance(item, bool):
            raise TypeError(f"{name} along {axis} must be True or False, got {item!r}")
    return values


def _as_tuple(name: str, value: object, rank: int, kind: str) -> tuple:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(f"{name} must be {kind} or a sequence of {rank} (one per axis), got {value!r}")
    if len(value) != rank:
        raise ValueError(f"{name} has {len(value)} values {tuple(value)} for {rank} spatial axes {_AXES[rank]}")
    return tuple(value)


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
