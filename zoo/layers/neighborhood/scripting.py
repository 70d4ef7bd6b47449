"""The form of the layers that ``torch.jit.script`` compiles.

TorchScript reads annotations from the source and knows only ``Tensor``, so it cannot take a ``forward`` with shape
annotations. ``torch.jit.script`` asks each submodule for a stand-in first (``__prepare_scriptable__``) and leaves it
in the model for good. Hence a stand-in is a layer of the same kind that shares every parameter and setting, and
outside TorchScript it runs the usual path.
"""

import copy
from typing import Any, no_type_check

import torch
from torch import Tensor

from zoo.layers.neighborhood.modules import (
    NeighborhoodAttention1d,
    NeighborhoodAttention2d,
    NeighborhoodAttention3d,
    _NeighborhoodAttention,
)
from zoo.layers.neighborhood.reference import gather_attention


@no_type_check
class _Scriptable(_NeighborhoodAttention):
    # TorchScript wants lists of a known type where the layer keeps tuples.
    windows: list[int]
    steps: list[int]
    past_only: list[bool]

    @torch.jit.unused
    def _eager(self, x: Tensor) -> Tensor:
        return self._forward(x)

    def forward(self, x: Tensor) -> Tensor:
        if not torch.jit.is_scripting():
            return self._eager(x)
        if x.dim() != len(self.windows) + 2:
            raise ValueError(f"expected {len(self.windows) + 2} dimensions, got {x.dim()}")
        for axis in range(len(self.windows)):
            if self.windows[axis] * self.steps[axis] > x.shape[axis + 1]:
                raise ValueError(
                    f"kernel_size {self.windows[axis]} x dilation {self.steps[axis]} > {x.shape[axis + 1]} positions "
                    f"on spatial axis {axis}"
                )
        qkv = self.qkv(x)
        q, k, v = qkv.unflatten(-1, [3, self.num_heads, self.dim // self.num_heads]).unbind(-3)
        dropout_p = self.attn_drop if self.training else 0.0
        out = gather_attention(q, k, v, self.windows, self.steps, self.past_only, self.rpb, self.scale, dropout_p)
        return self.proj_drop(self.proj(out.flatten(-2)))


class ScriptableNeighborhoodAttention1d(_Scriptable, NeighborhoodAttention1d):
    """Stand-in of :class:`NeighborhoodAttention1d` under TorchScript."""


class ScriptableNeighborhoodAttention2d(_Scriptable, NeighborhoodAttention2d):
    """Stand-in of :class:`NeighborhoodAttention2d` (and of ``DiNA``) under TorchScript."""


class ScriptableNeighborhoodAttention3d(_Scriptable, NeighborhoodAttention3d):
    """Stand-in of :class:`NeighborhoodAttention3d` under TorchScript."""


_STAND_INS = {
    1: ScriptableNeighborhoodAttention1d,
    2: ScriptableNeighborhoodAttention2d,
    3: ScriptableNeighborhoodAttention3d,
}


def stand_in(layer: _NeighborhoodAttention) -> _NeighborhoodAttention:
    """The same layer, with the same parameters, in a class that TorchScript compiles."""
    twin: Any = copy.copy(layer)
    twin.__class__ = _STAND_INS[layer.rank]
    twin.windows, twin.steps, twin.past_only = list(layer.kernel_size), list(layer.dilation), list(layer.causal)
    return twin
