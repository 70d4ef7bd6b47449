"""Boxes and sizes that a crop can have, and clear words where it cannot."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from zoo.eager import must_compose


def both_sides(size: int | Sequence[int], what: str) -> tuple[int, int]:
    """Height and width.

    Raises:
        ValueError: other than one or two whole numbers from 1.
    """
    sides: Any = tuple(size) if isinstance(size, Sequence) and not isinstance(size, str) else (size, size)
    if len(sides) != 2 or not all(_is_side(side) for side in sides):
        raise ValueError(f"{what} must be one side or (height, width), whole numbers from 1, got {size!r}")
    return sides[0], sides[1]


def _is_side(side: object) -> bool:
    return isinstance(side, int | torch.SymInt) and not isinstance(side, bool) and bool(side >= 1)


def check_boxes(boxes: Tensor) -> None:
    """Refuse what are no boxes in an image; it looks at values, so it is not for compiled code.

    Raises:
        TypeError: no tensor.
        ValueError: another shape, an edge outside [0, 1], or no area.
    """
    _check_shape(boxes)
    _check_values(boxes)


def look_at_boxes(boxes: Tensor, *beside: Tensor) -> None:
    """`check_boxes`, as far as it costs nothing that would be missed.

    Values are not looked at in compiled, traced and transformed code, nor while something is learned on a GPU, which
    would wait for it at every step.

    Args:
        boxes: (batch, 4).
        beside: what is computed with them.

    Raises:
        TypeError, ValueError: as `check_boxes`.
    """
    _check_shape(boxes)
    if must_compose(boxes, *beside):
        return
    if boxes.device.type == "cpu" or not (torch.is_grad_enabled() and any(x.requires_grad for x in (boxes, *beside))):
        _check_values(boxes)


def _check_shape(boxes: Tensor) -> None:
    if not isinstance(boxes, Tensor):
        raise TypeError(
            f"boxes must be a tensor (batch, 4), (x0, y0, x1, y1) of each, got {type(boxes).__name__}; "
            "torch.as_tensor(boxes) makes one"
        )
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes must be (batch, 4), (x0, y0, x1, y1) of each, got {tuple(boxes.shape)}")


def _check_values(boxes: Tensor) -> None:
    if not boxes.numel() or boxes.is_meta:
        return
    boxes = boxes.detach()
    slack = 4 * torch.finfo(boxes.dtype).eps if boxes.is_floating_point() else 0
    wrong = ~((boxes >= -slack) & (boxes <= 1 + slack)).all(1)
    empty = (boxes[:, :2] >= boxes[:, 2:]).any(1)
    if not (wrong | empty).any():
        return
    if wrong.any():
        found = boxes[wrong][0].tolist()
        raise ValueError(f"boxes must be inside the image, all numbers in [0, 1], got {found}; divide pixels by size")
    raise ValueError(f"boxes must have x0 < x1 and y0 < y1, got {boxes[empty][0].tolist()}")
