"""What the global and the local network have in common: a trunk, a pool, a classifier a task."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.layers.varifocal.checks import both_sides
from zoo.layers.varifocal.pool import grid_max
from zoo.models.checkpointing import checkpoint_block
from zoo.models.varifocal.backbone import BackboneLike, MapShape, as_map, make_trunk, raw_features, take_out_unused
from zoo.models.varifocal.tasks import Tasks, tasks_of
from zoo.models.varifocal.wide_trunk import WideTrunk


class TaskHead(nn.Module):
    """One linear map a task on the pooled features; a task without classes has none.

    Args:
        dim: features.
        tasks: classes of each task.
    """

    def __init__(self, dim: int, tasks: Tasks, **place: Any) -> None:
        super().__init__()
        self.dim = dim
        # Not "type": that is a method of every module.
        self.fc_type, self.fc_polarity = (_linear(dim, count, **place) for count in tasks)

    def forward(self, x: Float[Tensor, "batch dim"]) -> tuple[Tensor | None, Tensor | None]:
        return tuple(None if layer is None else layer(x) for layer in (self.fc_type, self.fc_polarity))  # type: ignore


def _linear(dim: int, count: int, **place: Any) -> nn.Linear | None:
    return None if count == 0 else no_bias(nn.Linear(dim, count, **place))


@torch.no_grad()
def no_bias(layer: nn.Linear) -> nn.Linear:
    """The layer, whose bias begins at zero."""
    nn.init.zeros_(layer.bias)
    return layer


class ScaleNet(nn.Module):
    """A trunk, its map pooled to `head_pool` x `head_pool` cells, and a linear map a task.

    Args:
        backbone: the paper's trunk (None), a name, a mapping, or a module; see `BackboneLike`.
        num_classes: (types, polarities), or a number of types alone.
        in_chans: channels of the image.
        img_size: of the images that it is made for; others work as far as the backbone takes them.
        head_pool: cells a side.
        wide: options of the paper's trunk: `stem`, `widths`, `depths`, `strides`.
        place: `device` and `dtype`.

    Raises:
        ValueError: no backbone, an option out of range, or images smaller than one cell of its map.
    """

    def __init__(
        self,
        backbone: BackboneLike,
        num_classes: int | Sequence[int],
        in_chans: int,
        img_size: int | Sequence[int],
        head_pool: int,
        wide: Mapping[str, Any],
        place: Mapping[str, Any],
    ) -> None:
        super().__init__()
        tasks, size = tasks_of(num_classes), both_sides(img_size, "img_size")
        if head_pool < 1:
            raise ValueError(f"head_pool must be at least 1, got {head_pool}")
        self.in_chans, self.size, self.head_pool = in_chans, size, head_pool
        self.grad_checkpointing = False
        self.trunk = make_trunk(backbone, in_chans, size, wide, place)
        if isinstance(self.trunk, WideTrunk):
            cells = [-(-side // self.trunk.reduction) for side in size]
            self.shape = MapShape(self.trunk.num_features, cells[0], cells[1])
            self.reduction = self.trunk.reduction
        else:
            self.shape = take_out_unused(self.trunk, in_chans, size)
            self.reduction = max(1, round(size[0] / self.shape.height))
        if min(size) < self.reduction:
            raise ValueError(
                f"images of {size[0]}x{size[1]} are smaller than one cell of the map, {self.reduction} pixels; give "
                "larger ones (img_size, local_size), or a backbone that reduces them less"
            )
        self.num_features = self.shape.dim * head_pool**2
        self.head = TaskHead(self.num_features, tasks, **place)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute what the trunk computed in the backward pass: each unit or block by itself where it knows how."""
        own = getattr(self.trunk, "set_grad_checkpointing", None)
        if own is not None:
            try:
                own(enable)
                return
            except (AssertionError, NotImplementedError):  # timm's word for a network that does not know how
                pass
        self.grad_checkpointing = enable

    def forward_map(self, x: Float[Tensor, "batch chans height width"]) -> Float[Tensor, "batch dim rows columns"]:
        """The trunk's map, channels first."""
        if self.grad_checkpointing and self.training:
            return checkpoint_block(_Mapped(self), x)
        return self.mapped(x)

    def mapped(self, x: Tensor) -> Tensor:
        """The trunk's map, computed at once."""
        if isinstance(self.trunk, WideTrunk):
            return self.trunk(x)
        return as_map(raw_features(self.trunk, x), self.shape, x.shape[2:])

    def pooled(self, features: Float[Tensor, "batch dim rows columns"]) -> Float[Tensor, "batch features"]:
        """Features of the classifiers, of a map."""
        return grid_max(features, self.head_pool).flatten(1)


class _Mapped(nn.Module):
    """`ScaleNet.mapped` as a module, which recomputation asks for."""

    def __init__(self, net: ScaleNet) -> None:
        super().__init__()
        self.trunk, self._mapped = net.trunk, net.mapped
        self.training = net.training

    def forward(self, x: Tensor) -> Tensor:
        return self._mapped(x)
