"""The module under test: how to build it, what to call it with, and how to compare what it gives."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from zoo.testing.kinds import Kind

Inputs = tuple[Tensor, ...]


@dataclass(frozen=True)
class Subject:
    """One class, or catalogue entry, with everything that the checks need.

    Attributes:
        name: for messages.
        kind: name of the kind.
        rules: the kind's row of the table.
        cls: the class, or whatever builds the module.
        fixed: keywords that belong to the catalogue entry.
        options: keywords that the caller wants besides.
        sizes: sizes of the instance and of its input.
        layouts: where a layout is declared ("class", "catalogue"), and which.
        compiler: backend of torch.compile, or "auto".
        example: inputs of one call from the size of the batch, for a kind whose contract has no call.
    """

    name: str
    kind: str
    rules: Kind
    cls: Callable[..., Any]
    fixed: Mapping[str, Any]
    options: Mapping[str, Any]
    sizes: Mapping[str, int]
    layouts: Mapping[str, str]
    compiler: str = "auto"
    example: Callable[[int], Any] | None = None

    @property
    def layout(self) -> str:
        """The layout that the class declares, else the catalogue, else the kind's own."""
        return next(iter(self.layouts.values()), self.rules.layouts[0])

    def with_sizes(self, **sizes: int) -> Subject:
        """The same with other sizes."""
        return replace(self, sizes={**self.sizes, **sizes})

    # --- building -------------------------------------------------------------------------------------------------

    def build(self, *args: Any, device: str = "cpu", dtype: torch.dtype | None = torch.float32, **options: Any) -> Any:
        """An instance from the sizes, more positional arguments, and the options."""
        place = {"device": device, "dtype": dtype} if self._takes_a_place() else {}
        sizes = [self.sizes[name] for name in self.rules.arguments]
        return self.cls(*sizes, *args, **{**self.fixed, **self.options, **options, **place})

    def _takes_a_place(self) -> bool:
        """False for an activation without parameters: torch's own take neither device nor dtype."""
        if self.kind != "act":
            return True
        if "dtype" in inspect.signature(self.cls).parameters:
            return True
        return next(self.cls(**{**self.fixed, **self.options}).parameters(), None) is not None

    def trained(self, dtype: torch.dtype = torch.float32, **options: Any) -> Any:
        """An instance in evaluation mode whose parameters are off their start, so that none is zero by chance."""
        module = self.build(dtype=dtype, **options).eval()
        disturb(module)
        return module

    # --- calling --------------------------------------------------------------------------------------------------

    def inputs(self, batch: int = 3, dtype: torch.dtype = torch.float32) -> Inputs:
        """The arguments of one call; the same values whenever it is asked."""
        if self.example is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                given = self.example(batch)
            given = given if isinstance(given, tuple) else (given,)
        else:
            assert self.rules.row is not None
            generator = torch.Generator().manual_seed(0)
            given = (torch.randn(batch, *self.rules.row(self.sizes, self.layout), generator=generator),)
        return tuple(v.to(dtype) if isinstance(v, Tensor) and v.is_floating_point() else v for v in given)

    def expected_shape(self, module: nn.Module, batch: int = 3) -> tuple[int, ...] | None:
        """Shape of the output by the contract; None where it has none."""
        if self.rules.result is None:
            return None
        return (batch, *self.rules.result(self.sizes, self.layout, module))


def expect(condition: object, message: str) -> None:
    """Fail a check."""
    if not condition:
        raise AssertionError(message)


def disturb(module: nn.Module) -> None:
    """Add a little noise to every parameter."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))


def outputs(result: Any) -> list[Tensor]:
    """The tensors of an output: itself, or the leaves of tuples, lists and dictionaries."""
    found = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
    if not found and hasattr(result, "__dict__"):
        found = [value for value in vars(result).values() if isinstance(value, Tensor)]
    return found


def tensors_of(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every parameter and buffer by name, those outside the state dict too."""
    yield from module.named_parameters()
    yield from module.named_buffers()


def shape_of(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def expect_equal(got: Any, wanted: Any, what: str) -> None:
    """Fail unless all tensors are equal to the bit."""
    for a, b in _pairs(got, wanted, what):
        if not torch.equal(a, b):
            difference = float((a.detach().double() - b.detach().double()).abs().max()) if a.numel() else 0.0
            raise AssertionError(f"{what} must be equal to the bit, got a difference of up to {difference:.3g}")


def expect_close(got: Any, wanted: Any, what: str) -> None:
    """Fail unless all tensors are equal up to rounding in their dtype."""
    for a, b in _pairs(got, wanted, what):
        if not a.numel():
            continue
        scale = max(1.0, float(b.detach().abs().max()))
        limit = (1e-9 if a.dtype == torch.float64 else 2e-5) * scale
        difference = float((a.detach().double() - b.detach().double()).abs().max())
        # Written so that NaN fails.
        expect(difference <= limit, f"{what} may differ by {limit:.1g}, got {difference:.3g}")


def _pairs(got: Any, wanted: Any, what: str) -> Iterable[tuple[Tensor, Tensor]]:
    ours, theirs = outputs(got), outputs(wanted)
    expect(len(ours) == len(theirs), f"{what}: expected {len(theirs)} tensors, got {len(ours)}")
    for a, b in zip(ours, theirs, strict=True):
        expect(a.shape == b.shape, f"{what}: expected the shape {shape_of(b)}, got {shape_of(a)}")
        expect(a.dtype == b.dtype, f"{what}: expected {b.dtype}, got {a.dtype}")
        yield a, b
