"""Which network computed which pixel, as colours over the image."""

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from zoo.models.super_resolution.pictures import LEVELS, Picture, read_picture

#: Of the lightest and of the heaviest class.
_LIGHT, _HEAVY = (40, 170, 70), (220, 50, 40)


def visualize(image: Picture, class_map: Tensor, *, opacity: float | int = 0.5) -> UInt8[np.ndarray, "height width 3"]:
    """An image with each pixel tinted by its class, from green, the lightest network, to red, the heaviest.

    Args:
        image: as enlarged: an array (height, width, channels), an image of Pillow, a path, or a tensor (channels,
            height, width); floating-point values are in [0, 1].
        class_map: (height, width) or (1, height, width), as `EnlargementInfo` has it.
        opacity: of the colours, from 0 to 1.

    Returns:
        An array of uint8.

    Raises:
        ValueError: a class map of another size than the image, or an opacity out of range.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must be from 0 to 1, got {opacity}")
    values = read_picture(image)
    classes = class_map[0] if class_map.ndim == 3 and len(class_map) == 1 else class_map
    if classes.shape != values.shape[1:]:
        raise ValueError(
            f"the class map must have the size of the image, {tuple(values.shape[1:])}, got {tuple(class_map.shape)}"
        )
    white = LEVELS.get(str(values.dtype).removeprefix("torch."), 1)
    pixels = (values.permute(1, 2, 0).cpu().float() * (255 / white)).clamp_(0, 255)
    colours = _colours(int(classes.max()) + 1 if classes.numel() else 1)[classes.cpu().long()]
    return pixels.lerp_(colours, float(opacity)).round_().to(torch.uint8).numpy()


def _colours(classes: int) -> Tensor:
    """One for every class, of two classes at least."""
    steps = torch.linspace(0, 1, max(classes, 2))[:, None]
    return torch.tensor(_LIGHT, dtype=torch.float32) + steps * (torch.tensor(_HEAVY) - torch.tensor(_LIGHT))
