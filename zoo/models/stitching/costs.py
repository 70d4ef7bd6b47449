"""What the paths of a stitched network cost: every piece is counted once, and each path adds up its own.

FLOPs are in the convention of the published tables: a multiply-accumulate of a convolution, a linear layer or a product
of matrices counts 1, an element of a layer or group norm 5 (4 without scale), of a batch norm in evaluation 2 (1
without), of a map that is averaged as a whole 1. Activations, softmax, sums and biases count nothing.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from zoo.layers.stitch import StitchLayer
from zoo.models.placed import example_of, placed_copy
from zoo.models.stitching.anchors import Anchor, Piece, anchor_of
from zoo.models.stitching.path import Join, PathStep

_aten: Any = torch.ops.aten
#: Products of matrices, and which argument is the first factor.
_PRODUCTS = {_aten.mm: 0, _aten.bmm: 0, _aten.mv: 0, _aten.addmm: 1, _aten.baddbmm: 1, _aten.addmv: 1}
#: Norms: which argument is the scale, what an element counts with it, and without.
_NORMS = {
    _aten.native_layer_norm: (2, 5, 4),
    _aten.native_group_norm: (1, 5, 4),
    _aten.native_batch_norm: (1, 2, 1),
    _aten.cudnn_batch_norm: (1, 2, 1),
    _aten.miopen_batch_norm: (1, 2, 1),
}


class Cost(NamedTuple):
    """What a path needs for one image.

    Attributes:
        flops: in the convention of the published tables.
        macs: multiply-accumulates alone.
        params: parameters of the modules that run. A low-rank product counts as merged into its matrix, here and in
            the other two, which is how the path is exported.
    """

    flops: int
    macs: int
    params: int


class Measured(NamedTuple):
    """What the pieces of an anchor count, and how many tokens or places each gives."""

    flops: dict[Piece, int]
    macs: dict[Piece, int]
    places: dict[Piece, int]


class OperationCount(TorchDispatchMode):
    """Counts what operations compute while it is entered.

    Kernels that are unknown to torch, such as attention written in another language, are not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.macs = self.others = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        packet = getattr(func, "overloadpacket", None)
        if packet in _PRODUCTS:
            self.macs += out.numel() * args[_PRODUCTS[packet]].shape[-1]
        elif packet is _aten.convolution:
            transposed, weight = args[6], args[1]
            self.macs += (args[0] if transposed else out).numel() * weight[0].numel()
        elif packet in _NORMS:
            scale, with_it, without = _NORMS[packet]
            self.others += args[0].numel() * (without if args[scale] is None else with_it)
        elif packet is _aten._adaptive_avg_pool2d or (packet is _aten.mean and _is_pool(*args)):
            self.others += args[0].numel()
        return out


def _is_pool(x: Tensor, dims: Any = None, keepdim: bool = False, *_: Any) -> bool:
    """Whether a mean is what becomes of a pooling of maps (B, C, H, W) to one place.

    Means over the tokens of transformers count nothing in the published tables.
    """
    return x.ndim == 4 and keepdim and dims is not None and {d % 4 for d in dims} == {2, 3}


@torch.no_grad()
def measure_anchor(anchor: Anchor, image: tuple[int, int, int]) -> Measured:
    """Count every piece of an anchor in one forward pass, without values if the anchor can be run so.

    Args:
        anchor: the anchor; it stays as it is.
        image: (channels, height, width).
    """
    try:
        return _measured(anchor_of(placed_copy(anchor.model, "meta")), image)
    except RuntimeError:
        if any(p.is_meta for p in anchor.model.parameters()):
            raise
        # It looks at values, or has tensors that are neither parameters nor buffers.
        return _measured(anchor_of(placed_copy(anchor.model)), image)


def _measured(anchor: Anchor, image: tuple[int, int, int]) -> Measured:
    counted = Measured({}, {}, {})
    x = example_of(anchor.model, (1, *image))
    # Attention as products of matrices: fused kernels differ from device to device.
    with sdpa_kernel(SDPBackend.MATH):
        for piece in anchor.walk():
            with OperationCount() as count:
                x = anchor.piece(piece)(x)
            counted.flops[piece], counted.macs[piece] = count.macs + count.others, count.macs
            if piece.kind == "block":
                counted.places[piece] = x.numel() // anchor.stages[piece.stage].width
    return counted


def path_costs(
    plans: Iterable[Sequence[PathStep]],
    anchors: Sequence[Anchor],
    layer: Callable[[Join], StitchLayer],
    image: tuple[int, int, int],
) -> tuple[Cost, ...]:
    """The cost of every path.

    Args:
        plans: what each path runs.
        anchors: all of the network.
        layer: finds stitching layers.
        image: (channels, height, width).
    """
    measured = [measure_anchor(anchor, image) for anchor in anchors]
    sizes: dict[tuple[int, Piece], dict[int, int]] = {}
    costs = []
    for plan in plans:
        flops = macs = 0
        owned: dict[int, int] = {}  # by identity: weights that pieces share count once
        before = None
        for step in plan:
            if step.piece is not None:
                key = step.anchor, step.piece
                if key not in sizes:
                    sizes[key] = sizes_of(anchors[step.anchor], step.piece)
                flops += measured[step.anchor].flops[step.piece]
                macs += measured[step.anchor].macs[step.piece]
                owned |= sizes[key]
            elif step.join is not None and before is not None and before.piece is not None:
                joint = layer(step.join)
                products = measured[before.anchor].places[before.piece] * joint.in_dim * joint.out_dim
                flops, macs = flops + products, macs + products
                for tensor in (joint.transform.weight, joint.transform.bias):
                    owned |= {} if tensor is None else {id(tensor): tensor.numel()}
            before = step
        costs.append(Cost(flops, macs, sum(owned.values())))
    return tuple(costs)


def sizes_of(anchor: Anchor, piece: Piece) -> dict[int, int]:
    """Elements of every parameter of a piece, by identity."""
    found: dict[int, int] = {}
    for name in anchor.names(piece):
        owner, _, last = name.rpartition(".")
        part = getattr(anchor.model.get_submodule(owner), last)
        tensors = part.parameters() if isinstance(part, nn.Module) else [part]
        found |= {id(p): p.numel() for p in tensors if isinstance(p, nn.Parameter)}
    return found


def size_of_images(anchors: Sequence[Anchor], asked: Sequence[int] | None = None) -> tuple[int, int] | None:
    """The size of images that the anchors take: the one that they are made for, else what is asked for, else that of
    their weights."""
    for anchor in anchors:
        if anchor.img_size is not None:
            return anchor.img_size
    if asked:
        return (asked[0], asked[1])
    for anchor in anchors:
        size = (getattr(anchor.model, "pretrained_cfg", None) or {}).get("input_size")
        if size is not None:
            return (int(size[1]), int(size[2]))
    return None


def asked_size(anchors: Sequence[Anchor], asked: Any) -> tuple[int, int]:
    """The (height, width) of images that are asked for, as one number or two.

    Args:
        anchors: of a network.
        asked: what was given.

    Raises:
        ValueError: something else, or a size that an anchor does not take.
    """
    sides = (asked, asked) if isinstance(asked, int) else asked
    whole = isinstance(sides, Sequence) and all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in sides)
    if not whole or len(sides) != 2:
        raise ValueError(f"img_size is a number of pixels from 1, or (height, width), got {asked!r}")
    for anchor in anchors:
        if anchor.img_size not in (None, tuple(sides)):
            height, width = anchor.img_size  # pyright: ignore[reportGeneralTypeIssues]
            raise ValueError(f"img_size={asked!r} is asked for, and the network takes images of {height}x{width}")
    return (sides[0], sides[1])


def shapes_of(model: nn.Module) -> tuple[tuple[int, ...], ...]:
    """The shapes of all parameters: costs hold as long as they are the same."""
    return tuple(tuple(p.shape) for p in model.parameters())


def check_order(names: Sequence[str], sizes: Sequence[int], *, strict: bool) -> None:
    """Warn of anchors that are not from small to large.

    Args:
        names: of the anchors.
        sizes: their FLOPs.
        strict: an error instead.

    Raises:
        ValueError: with `strict`.
    """
    if list(sizes) == sorted(sizes):
        return
    order = sorted(range(len(sizes)), key=lambda a: sizes[a])
    message = (
        "anchors should go from small to large, as stitches run from one to the next and the other way round lose "
        f"accuracy; by FLOPs the order is {', '.join(f'{names[a]} ({in_giga(sizes[a])})' for a in order)}"
    )
    if strict:
        raise ValueError(message)
    warnings.warn(message, stacklevel=4)


def in_giga(count: int | float) -> str:
    """A number for people: 4.61 G."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(count) >= size:
            return f"{_short(count / size)} {letter}"
    return _short(count)


def _short(number: int | float) -> str:
    """Three digits or more, without an exponent."""
    digits = max(0, 2 - math.floor(math.log10(abs(number)))) if number else 0
    return f"{number:.{digits}f}"
