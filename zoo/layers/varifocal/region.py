"""Regions and boxes: where the second look goes.

A *region* is what the localisation head says, u = (u_x, u_y, u_l) in [0, 1]; a *box* is (x0, y0, x1, y1), and a *centre
form* (centre x, centre y, side), all as fractions of the image. The paper ("Varifocal-Net", Qin et al., 2019,
arXiv:1810.05943) states that three numbers decide on a square box by its corners and the ratio of its side to the
image's; how they do is our design.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from zoo.naming import did_you_mean

BOX_MODES = ("inset", "clamp")


def decode_region(
    region: Float[Tensor, "batch 3"], mode: str = "inset", min_ratio: float | int = 0.25
) -> Float[Tensor, "batch 4"]:
    """The square box of a region, inside the image.

    The side is r = min_ratio + (1 - min_ratio) u_l. With "inset" the corner is (1 - r) (u_x, u_y): the box is inside by
    construction, and every u keeps a gradient. With "clamp" (u_x, u_y) is the centre, clamped to [r/2, 1 - r/2].

    Args:
        region: (u_x, u_y, u_l) in [0, 1].
        mode: "inset" or "clamp".
        min_ratio: side of the smallest box, as a fraction of the image's.

    Raises:
        ValueError: an unknown mode, or a ratio out of (0, 1].
    """
    check_box_options(mode, min_ratio)
    r = min_ratio + (1 - min_ratio) * region[:, 2:]
    if mode == "inset":
        corner = (1 - r) * region[:, :2]
    else:
        corner = torch.minimum(torch.maximum(region[:, :2], r / 2), 1 - r / 2) - r / 2
    return torch.cat([corner, corner + r], 1)


def check_box_options(mode: str, min_ratio: float | int) -> None:
    """Refuse what says no box.

    Raises:
        ValueError: an unknown mode, or a ratio out of (0, 1].
    """
    if mode not in BOX_MODES:
        raise ValueError(
            f"unknown box_mode {mode!r}{did_you_mean(str(mode), BOX_MODES) or '.'} There are {', '.join(BOX_MODES)}"
        )
    if not 0 < min_ratio <= 1:
        raise ValueError(f"min_ratio must be above 0 and at most 1, got {min_ratio}")


def centre_form(boxes: Float[Tensor, "batch 4"]) -> Float[Tensor, "batch 3"]:
    """(centre x, centre y, side) of square boxes: what rough targets of the localisation are given in."""
    return torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:3] - boxes[:, :1]], 1)


def square_box(centre: Float[Tensor, "batch 3"]) -> Float[Tensor, "batch 4"]:
    """The box (x0, y0, x1, y1) of (centre x, centre y, side)."""
    half = centre[:, 2:] / 2
    return torch.cat([centre[:, :2] - half, centre[:, :2] + half], 1)


def pseudo_region(features: Float[Tensor, "batch dim height width"], half: float | int = 0.25) -> Float[Tensor, "b 3"]:
    """A rough target for the localisation: where the map responds most.

    True positions are not known (the paper states so); this form is our design. The centre is that of the cell whose
    mean over the channels is largest, ((col + 0.5) / width, (row + 0.5) / height), clipped to [half, 1 - half].

    Args:
        features: the map of the trunk.
        half: half of the side.

    Returns:
        (centre x, centre y, 2 half).

    Raises:
        ValueError: a half out of (0, 0.5].
    """
    if not 0 < half <= 0.5:
        raise ValueError(f"half must be above 0 and at most 0.5, got {half}")
    width, height = features.shape[3], features.shape[2]
    cell = features.detach().mean(1).flatten(1).argmax(1)
    x = (cell % width + 0.5) / width
    y = (cell.div(width, rounding_mode="floor") + 0.5) / height
    centre = torch.stack([x, y], 1).clamp(half, 1 - half)
    return torch.cat([centre, torch.full_like(centre[:, :1], 2 * half)], 1).to(features.dtype)


def foreground_region(
    images: Float[Tensor, "batch chans height width"], threshold: float | int = 0.0, min_ratio: float | int = 0.25
) -> Float[Tensor, "batch 3"]:
    """A rough target for the localisation, of images on an empty background: where the object is. Our design.

    The centre is the centroid of the pixels above the threshold, the side the larger extent of these; both such that
    the box is inside the image. An image without such pixels gives the whole of it.

    Args:
        images: of one object each.
        threshold: the background's largest value, in any channel.
        min_ratio: smallest side.

    Returns:
        (centre x, centre y, side).
    """
    seen = (images > threshold).any(1)
    rows, columns = seen.any(2), seen.any(1)
    side = torch.maximum(_extent(rows), _extent(columns)).to(images.dtype)
    counts = seen.flatten(1).sum(1).clamp(min=1)
    x = _mean_place(seen.sum(1), counts)
    y = _mean_place(seen.sum(2), counts)
    some = rows.any(1)
    side = torch.where(some, side, torch.ones_like(side)).clamp(min_ratio, 1)
    centre = torch.where(some[:, None], torch.stack([x, y], 1).to(images.dtype), torch.full_like(side, 0.5)[:, None])
    half = side[:, None] / 2
    return torch.cat([torch.minimum(torch.maximum(centre, half), 1 - half), side[:, None]], 1)


def _extent(marked: Tensor) -> Tensor:
    """From the first to the last marked place, as a fraction of all."""
    length = marked.shape[1]
    first = marked.to(torch.uint8).argmax(1)
    last = length - 1 - marked.flip(1).to(torch.uint8).argmax(1)
    return (last - first + 1) / length


def _mean_place(weights: Tensor, counts: Tensor) -> Tensor:
    places = (torch.arange(weights.shape[1], device=weights.device) + 0.5) / weights.shape[1]
    return (weights * places).sum(1) / counts
