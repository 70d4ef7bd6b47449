"""What MedViTV2 refuses: options that do not fit together, and images that its maps cannot hold."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from zoo.layers.medvit2_blocks import GFPBlock, LFPBlock
from zoo.layers.medvit2_parts import PooledAttention
from zoo.layers.neighborhood import NeighborhoodAttention2d

_LARGEST_SIDE = 4096  # where the search for a side that works gives up


def check_options(per_stage: Mapping[str, Sequence[int]], stem_chs: Sequence[int], in_chans: int) -> None:
    """Refuse option lists of the wrong length, and values no layer checks.

    Raises:
        ValueError: naming the option, its value and what is allowed.
    """
    for name, values in per_stage.items():
        if len(values) != 4 or any(v < 1 for v in values):
            raise ValueError(f"{name} must be four integers of at least 1, got {tuple(values)}")
    for stage, kernel in enumerate(per_stage["kernel_sizes"], 1):
        if kernel % 2 == 0:
            odd = " or ".join(str(k) for k in (kernel - 1, kernel + 1) if k >= 3)
            raise ValueError(
                f"kernel_sizes must be odd, as the released model's are, so that a token is the centre of its "
                f"neighbourhood; stage {stage} has {kernel}: use {odd} (the layer "
                f"NeighborhoodAttention2d by itself takes even ones)"
            )
    if len(stem_chs) != 3 or any(c < 1 for c in stem_chs):
        raise ValueError(f"stem_chs must be three widths of at least 1, got {tuple(stem_chs)}")
    depth = per_stage["depths"][2]
    if depth % 3:
        raise ValueError(
            f"depths[2] must be a multiple of 3, because stage 3 repeats (local, local, global), got {depth}; "
            f"use {max(3, round(depth / 3) * 3)}"
        )
    if in_chans < 1:
        raise ValueError(f"in_chans must be an int ≥ 1, got {in_chans}")


def check_image(x: Tensor, model: nn.Module) -> None:
    """Refuse what `model` (a MedViT2) cannot take as a batch of images.

    Raises:
        TypeError: not floating point.
        ValueError: rank, channels, a side that a neighbourhood or a pooled key does not fit in, or a training batch
            that leaves batch norm one value per channel.
    """
    in_chans = model.in_chans
    if x.ndim != 4:
        raise ValueError(
            f"expected images (batch, {in_chans}, height, width), got {x.ndim} dimensions {tuple(x.shape)}"
            + ("; add the batch with x[None]" if x.ndim == 3 else "")
        )
    if x.shape[1] != in_chans:
        raise ValueError(
            f"expected {in_chans} channels in the second dimension, got {x.shape[1]} in {tuple(x.shape)}; "
            f"build the model with in_chans={x.shape[1]} or convert the image"
        )
    if not x.is_floating_point():
        raise TypeError(
            f"images must be floating point in the normalised range, got {x.dtype}; use x.float() / 255, then "
            "subtract the model's mean and divide by its std"
        )
    height, width = x.shape[-2:]
    check_size(model, height, width)
    if model.training:
        for stage, block, h, w in _maps(model, height, width):
            pooled = isinstance(block, GFPBlock) and isinstance(block.e_mhsa, PooledAttention)
            positions = h * w // block.e_mhsa.group if pooled else h * w  # type: ignore[union-attr]
            if x.shape[0] * positions == 1:
                what = "pooled key" if pooled else "position"
                raise ValueError(
                    f"batch norm needs more than one value per channel in training, but a batch of 1 with {height}×"
                    f"{width} pixels leaves one {what} in stage {stage}; use a larger batch, larger images or eval()"
                )


def check_size(model: nn.Module, height: int, width: int) -> None:
    """Refuse images of a size that a neighbourhood or a pooled key of `model` (a MedViT2) does not fit in.

    Raises:
        ValueError: naming the stage, its map and the smallest side that works.
    """
    problem = _misfit(model, height, width)
    if problem:
        side = next((s for s in range(max(1, min(height, width)), _LARGEST_SIDE) if not _misfit(model, s, s)), None)
        raise ValueError(f"an image of {height}×{width} is too small: {problem}; the smallest side is {side}")


def _maps(model: nn.Module, height: int, width: int) -> Iterator[tuple[int, Any, int, int]]:
    """(stage, block, height, width) of every block's map for an image of this size."""
    for step in model.stem:  # pyright: ignore[reportGeneralTypeIssues]
        stride = step.conv.stride[0]
        height, width = math.ceil(height / stride), math.ceil(width / stride)
    stage = 1
    for i, block in enumerate(model.features):  # pyright: ignore[reportArgumentType]
        stage += block.stride > 1 and i > 0
        height, width = math.ceil(height / block.stride), math.ceil(width / block.stride)
        yield stage, block, height, width


def _misfit(model: nn.Module, height: int, width: int) -> str:
    """Why the image does not fit, or an empty string."""
    for stage, block, h, w in _maps(model, height, width):
        if isinstance(block, LFPBlock) and isinstance(block.attn, NeighborhoodAttention2d):
            for axis, size, k, d in zip(
                ("height", "width"), (h, w), block.attn.kernel_size, block.attn.dilation, strict=True
            ):
                if k * d > size:
                    reach = f"kernel_size {k} · dilation {d} = {k * d}"
                    return f"stage {stage} has a map of {h}×{w}, and {reach} is more than its {axis}"
        if isinstance(block, GFPBlock) and isinstance(block.e_mhsa, PooledAttention) and h * w < block.e_mhsa.group:
            return f"stage {stage} has a map of {h}×{w}, fewer tokens than the {block.e_mhsa.group} averaged into a key"
    return ""
