"""What anchors take and give, against what they say of themselves: found by a pass without values."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zoo.models.placed import placed_copy
from zoo.models.stitching.anchors import Anchor, AnchorSpec, Piece, anchor_of
from zoo.models.stitching.checks import check_equal

_ANY_SIZE = (224, 224)


def check_pieces(
    anchors: Sequence[Anchor], names: Sequence[str], in_chans: int | None, size: tuple[int, int] | None
) -> int:
    """Refuse anchors of other channels than asked for or than each other's, and blocks that give no such features.

    Args:
        anchors: of a network.
        names: of theirs, for the error.
        in_chans: channels of images that are asked for.
        size: of the images, if it is known; without it blocks are not run.

    Returns:
        the channels that all of them take.

    Raises:
        ValueError: naming the anchor, and what differs.
    """
    found: int | None = None
    of = ""
    for anchor, name in zip(anchors, names, strict=True):
        channels = _channels_of(anchor, in_chans, size)
        if channels is not None:
            if in_chans not in (None, channels):
                raise ValueError(f"in_chans={in_chans} is asked for, and {name} takes images of {channels} channels")
            if found is not None:
                check_equal("channels", of, found, name, channels)
            found, of = channels, name
    found = found or in_chans or 3
    for anchor, name in zip(anchors, names, strict=True):
        if size is not None and isinstance(anchor.model, AnchorSpec):
            _check_widths(anchor, name, (1, found, *size))
            # Where a map has as many rows as channels, another size tells them apart.
            _check_widths(anchor, name, (1, found, 2 * size[0], 2 * size[1]))
    return found


def check_block(x: Tensor, anchor: Anchor, piece: Piece, name: str) -> None:
    """Refuse what a block gives if it has another width or layout than its anchor says.

    Raises:
        ValueError: naming anchor and stage, what is said and what is given.
    """
    width, layout = anchor.stages[piece.stage].width, anchor.layout
    at = 1 if layout == "nchw" else -1
    if x.ndim != (3 if layout == "tokens" else 4) or x.shape[at] != width:
        raise ValueError(
            f"{name} says width {width} and layout {layout!r} of stage {piece.stage}, whose block {piece.index} gives "
            f"the shape {tuple(x.shape)}"
        )


@torch.no_grad()
def _channels_of(anchor: Anchor, asked: int | None, size: tuple[int, int] | None) -> int | None:
    """Channels of the images that an anchor takes; None if it does not say and no number is found."""
    model = anchor.model
    if not isinstance(model, AnchorSpec):
        return getattr(model, "in_chans", None)
    convolution = next((m for m in model.stem.modules() if isinstance(m, nn.Conv2d)), None)
    first = None if convolution is None else convolution.in_channels
    try:
        stem = placed_copy(model.stem, "meta")
    except Exception:  # what cannot be copied is asked nothing
        return None
    for channels in dict.fromkeys((asked, first, 3, 1)):
        if channels is not None:
            try:
                stem(torch.empty(1, channels, *(anchor.img_size or size or _ANY_SIZE), device="meta"))
            except Exception:  # whatever a network raises on images that are none for it
                continue
            return channels
    return None


@torch.no_grad()
def _check_widths(anchor: Anchor, name: str, shape: tuple[int, ...]) -> None:
    """`check_block` of every block that runs without values."""
    try:
        copied = anchor_of(placed_copy(anchor.model, "meta"))
        x = torch.empty(shape, device="meta")
        pieces = list(copied.walk())
    except Exception:  # what cannot be copied is looked at when it runs
        return
    for piece in pieces:
        try:
            x = copied.piece(piece)(x)
        except Exception:  # it looks at values, or takes other images; running it says so
            return
        if piece.kind == "block":
            check_block(x, anchor, piece, name)
