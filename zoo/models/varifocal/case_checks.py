"""Whether images can be those of a case, as a network was shown them, and which of its classes is which type."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zoo.models.data_config import CANVAS
from zoo.models.image_contract import check_image

#: Corners of a prepared image are 0; brighter ones than this, as a part of white, are those of another background.
_BRIGHT = 0.25
_HINT = "zoo.training.data.chromosome_transform.ChromosomeToTensor prepares pictures"


def case_images(given: Any) -> Tensor:
    """The images of a case as a tensor: of a tensor, an array, or a sequence of such of one shape.

    Raises:
        TypeError: something else.
        ValueError: no images, or images of several shapes.
    """
    if isinstance(given, list | tuple):
        images = [_tensor(one) for one in given]
        if len({one.shape for one in images}) > 1:
            shapes = ", ".join(str(list(shape)) for shape in dict.fromkeys(one.shape for one in images))
            raise ValueError(f"the images of a case must have one shape, got {shapes}")
        images = torch.stack(images) if images else torch.empty(0)
    else:
        images = _tensor(given)
    if not len(images):
        raise ValueError("a case must have at least one image, got none")
    return images


def _tensor(given: Any) -> Tensor:
    if isinstance(given, Tensor):
        return given
    if isinstance(given, np.ndarray) and given.dtype.kind in "fiub":
        return torch.tensor(given)
    raise TypeError(
        f"images must be a tensor (n, chans, height, width), an array, or a list of such, got {type(given).__name__}; "
        f"{_HINT}"
    )


def check_case_images(images: Tensor, in_chans: int, cfg: Mapping[str, Any], size: Sequence[int] | None = None) -> None:
    """Refuse what cannot be a case as it is prepared for a network.

    Args:
        images: of a case.
        in_chans: channels that the network takes.
        cfg: its data configuration: without `mean` and `std`, no range of values is known.
        size: height and width of the canvas that it is made for, if images lie on one.

    Raises:
        ValueError: other axes or another canvas, an image of a single value, values far outside those that a prepared
            image has, or a bright background where it should be 0.
        TypeError: whole numbers.
    """
    check_image(images, in_chans)
    if not images.numel():
        return  # the network says how many pixels it needs
    canvas = cfg.get("crop_mode") == CANVAS
    if canvas and size and tuple(images.shape[2:]) != tuple(size):
        side = f"ChromosomeToTensor({size[0]})" if size[0] == size[1] else "zero padding, not resizing,"
        raise ValueError(
            f"images must lie on the canvas of {size[0]}x{size[1]} pixels that the network is made for, got "
            f"{images.shape[2]}x{images.shape[3]}; {side} puts them there as they are, and img_size= makes a network "
            "for another canvas, to be trained on it"
        )
    flat = images.detach().flatten(1)
    least, most = flat.amin(1), flat.amax(1)
    if blank := (least == most).nonzero().flatten().tolist():
        row = blank[0]
        raise ValueError(f"image {row} of {len(images)} has the value {least[row]:.3g} alone: no chromosome is in it")
    if cfg.get("mean") is None or cfg.get("std") is None:
        return
    mean, std = np.asarray(cfg["mean"]), np.asarray(cfg["std"])
    black, white = float(((0 - mean) / std).min()), float(((1 - mean) / std).max())
    span, low, high = white - black, float(least.min()), float(most.max())
    wanted = f"images must have values from {black:.3g} to {white:.3g}" + canvas * ", chromosomes bright on black"
    # Augmented and resampled images go a little further, those of 0 to 255 or standardised otherwise much.
    if low < black - span or high > white + span:
        raise ValueError(f"{wanted}, got {low:.3g} to {high:.3g}; {_HINT if canvas else 'zoo.data_config tells more'}")
    if canvas:
        corners = images.detach()[:, :, (0, 0, -1, -1), (0, -1, 0, -1)].flatten(1).median(1).values
        if bright := (corners > black + _BRIGHT * span).nonzero().flatten().tolist():
            shown = f"image{'s' * (len(bright) > 1)} {', '.join(map(str, bright[:5]))}{', ...' * (len(bright) > 5)}"
            raise ValueError(
                f"{wanted}, and {len(bright)} of {len(images)} have a bright or white background ({shown}); {_HINT}"
            )


def type_places(net: nn.Module, template: Any) -> list[int]:
    """Where each type stands among the classes of a network: by its `label_names`, or in order if it has none.

    Args:
        net: the network.
        template: a `zoo.karyotype.Template`, of whose types it must be.

    Raises:
        ValueError: its classes are not these types.
    """
    names, count = template.names, int(getattr(net, "num_classes", 0))
    if not count:
        raise ValueError("the network has no types to tell (num_classes=0)")
    labels = [str(label) for label in (getattr(net, "pretrained_cfg", None) or {}).get("label_names") or ()]
    if not labels and count == len(names):
        return list(range(count))
    if sorted(labels) == sorted(names):
        return [labels.index(name) for name in names]
    shown = f", {template.differences(labels)}" if labels else ""
    raise ValueError(
        f"a case is told by a network of the {len(names)} types {names[0]} to {names[-1]}, its label_names; this one "
        f"has {count} classes{shown}. zoo.karyotype.dispatch takes log-probabilities with a column a type"
    )
