"""Modules that the tests put into backbones, and a look at what a module is given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

import zoo
from zoo.registry import default_registry


@contextmanager
def registered(kind: str, name: str, cls: Any, **facts: Any) -> Iterator[Any]:
    """A module in the registry for a while."""
    zoo.register_module(kind, name, **facts)(cls)
    try:
        yield cls
    finally:
        default_registry()._entries.pop(f"{kind}/{name}")


def build(base: str, **options: Any) -> Any:
    """A model in evaluation mode, always with the same random values."""
    torch.manual_seed(0)
    return zoo.create_model(base, **options).eval()


@torch.no_grad()
def vary(model: nn.Module, seed: int = 1) -> nn.Module:
    """Change every parameter, so that none is 0 or 1 by its initialisation."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


@torch.no_grad()
def call_of(model: nn.Module, path: str, x: Tensor) -> tuple[Tensor, dict[str, Any], Tensor]:
    """What a module of a model is given and gives: its first argument, the others by number or name, its output."""
    seen: list[Any] = []

    def record(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
        # Copies: what follows may work in place.
        seen.append((args[0].clone(), {**dict(enumerate(args[1:], 1)), **kwargs}, out.clone()))

    handle = model.get_submodule(path).register_forward_hook(record, with_kwargs=True)
    try:
        model(x)
    finally:
        handle.remove()
    assert len(seen) == 1
    return seen[0]


class Doubled(nn.Module):
    """A feed-forward part, for channels last, that tells channels apart: y_c = (c + 1) x_c."""

    layout = "NLC"

    def __init__(self, in_features: int, hidden_features: int | None = None, out_features: int | None = None):
        super().__init__()
        self.register_buffer("factor", torch.arange(1.0, in_features + 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class Running(nn.Module):
    """A mixer of sequences that tells their order: y_n = sum_{m <= n} x_m. Works on windows too."""

    layout = "NLC"
    windows = True

    def __init__(self, dim: int, num_heads: int = 8):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, rope: Tensor | None = None) -> Tensor:
        self.given = (attn_mask, rope)
        return x.cumsum(1) * self.scale


class Shifted(nn.Module):
    """A mixer on maps (B, H, W, C) that tells rows from columns: y_ij = x_i,j-1 + 2 x_i-1,j, round the edge."""

    layout = "NHWC"

    def __init__(self, dim: int, num_heads: int = 8):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.mixed(x) * self.scale

    @staticmethod
    def mixed(x: Tensor) -> Tensor:
        return x.roll(1, 2) + 2 * x.roll(1, 1)


class WindowedShift(Shifted):
    """The same on windows."""

    windows = True


class ShiftedWithPrefix(Shifted):
    """Class and register tokens get the mean of the map and themselves."""

    def mix_prefix(self, prefix: Tensor, map: Tensor) -> Tensor:
        return prefix + map.mean((1, 2), keepdim=True).squeeze(1)


class MaxPool(nn.Module):
    """The largest value of every channel."""

    def __init__(self, dim: int):
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x.amax(1)


class MeanAndMax(nn.Module):
    """Mean and largest value of every channel, side by side."""

    feat_mult = 2

    def __init__(self, dim: int):
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x.mean(1), x.amax(1)), 1)


class Sines(nn.Module):
    """Stands for a circuit: y = W sin(x)."""

    def __init__(self, in_features: int, out_features: int, depth: int = 1):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=0.1)

    def forward(self, x: Tensor) -> Tensor:
        return x.sin() @ self.weight.T
