"""Images, thresholded to bits, for the quantum neural network of Farhi and Neven.

Source: Farhi and Neven, "Classification with Quantum Neural Networks on Near Term Processors" (2018, arXiv 1802.06002);
the variant of TensorFlow Quantum's MNIST tutorial.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from zoo.eager import must_compose
from zoo.models.image_contract import check_image
from zoo.naming import check_keywords
from zoo.quantum.circuit import Circuit
from zoo.quantum.farhi_neven.options import check_choice
from zoo.quantum.farhi_neven.qnn import QNN

RESIZES = ("area", "bilinear")
_CLASSES = 2
#: Pixels may be outside [0, 1], as resizing overshoots and random erasing fills in normal noise; but so far is none
#: that does not count to 255.
_FAR = 8


class QNNImageClassifier(nn.Module):
    """Two classes of grey images: shrunk to `side` by `side` pixels, thresholded to bits, classified by a `QNN`.

    The second class has the label +1. `qnn` is the network: its circuit, its phases and amplitude.

    Shapes: images (B, 1, H, W) in [0, 1], of any size, or bits (B, side * side) of 0 and 1 -> (B,) in [-1, 1].

    Args:
        num_classes: 2; there is one readout.
        side: rows and columns of bits.
        img_size: size of the images it will be given, one side or (height, width); recorded for `zoo.data_config`,
            every size works.
        threshold: a pixel above it is 1.
        resize: "area", the mean of the pixels that fall on a bit, or "bilinear", between the four pixels around its
            middle, as the tutorial does.
        network: further options of `QNN`, such as {"layers": ["ZX", "XX"], "loss": "hinge"}.

    Raises:
        ValueError: another number of classes or channels, an option out of range; in the call, another shape, NaN,
            pixels far outside [0, 1].
        TypeError: a `network` that is no dictionary, or has an option that `QNN` lacks; in the call, images of whole
            numbers.
    """

    def __init__(
        self,
        num_classes: int = _CLASSES,
        in_chans: int = 1,
        *,
        side: int = 4,
        img_size: int | Sequence[int] = 28,
        threshold: float = 0.5,
        resize: str = "area",
        network: Mapping[str, Any] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if in_chans != 1:
            raise ValueError(f"a pixel becomes one bit, so in_chans must be 1, got {in_chans!r}")
        if isinstance(side, bool) or not isinstance(side, int) or side < 1:
            raise ValueError(f"side must be an int ≥ 1, got {side!r}")
        if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 <= threshold < 1:
            raise ValueError(
                f"threshold must be a number from 0 to below 1, as images are in [0, 1], got {threshold!r}"
            )
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        self.in_chans, self.side, self.threshold = in_chans, side, threshold
        self.resize = check_choice("resize", resize, RESIZES)
        self.num_features = side * side
        self._traits = {"img_size": (height, width)}
        self.qnn = QNN(self.num_features, **_checked(network), device=device, dtype=dtype)
        self.reset_classifier(num_classes)

    def init_weights(self) -> None:
        """Draw every angle anew, as at construction; completes a model moved off the meta device by `to_empty`."""
        self.qnn.reset_parameters()

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Take the two classes that there are.

        Raises:
            ValueError: another number of classes.
        """
        if num_classes != _CLASSES:
            raise ValueError(
                f"{type(self).__name__} has one readout qubit and so two classes, got num_classes={num_classes}; of a "
                "built-in data set two are taken by digits?classes=3,6"
            )
        self.num_classes = num_classes

    def bits(self, images: Float[Tensor, "batch chans height width"]) -> Int[Tensor, "batch n"]:
        """0 and 1 for every pixel of the shrunk images, row by row.

        Raises:
            ValueError: images of another rank or number of channels, NaN, pixels far outside [0, 1].
            TypeError: images of whole numbers.
        """
        check_image(images, self.in_chans)
        if not must_compose(images):
            _check_pixels(images)
        if tuple(images.shape[-2:]) != (self.side, self.side):
            corners = {} if self.resize == "area" else {"align_corners": False}
            images = F.interpolate(images, (self.side, self.side), mode=self.resize, **corners)
        return (images > self.threshold).flatten(1).long()

    def forward(self, x: Shaped[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        """Predictions for images, or for bits."""
        if isinstance(x, Tensor) and x.ndim == 4:
            return self.qnn(self.bits(x))
        transformed = torch._C._are_functorch_transforms_active()  # a sample may lack the batch
        if isinstance(x, Tensor) and not transformed and tuple(x.shape[1:]) != (self.num_features,):
            raise ValueError(
                f"expected images (batch, {self.in_chans}, height, width) or bits (batch, {self.num_features}), got "
                f"{tuple(x.shape)}{'; add the batch with x[None]' if x.ndim == 3 else ''}"
            )
        return self.qnn(x)

    def as_circuit(self, x: Tensor | None = None) -> tuple[Circuit, Tensor, None, str]:
        """The network for one image (1, 1, H, W) or its bits, as `QNN.as_circuit` has it."""
        return self.qnn.as_circuit(self.bits(x) if x is not None and x.ndim == 4 else x)

    def as_logits(self, output: Float[Tensor, " batch"]) -> Float[Tensor, "batch 2"]:
        """Logarithms of the chances that the readout is measured as -1 and as +1."""
        chances = torch.stack([1 - output, 1 + output], 1) / 2
        return chances.clamp_min(torch.finfo(chances.dtype).eps).log()

    def loss(self, output: Float[Tensor, " batch"], target: Shaped[Tensor, " batch"]) -> Float[Tensor, ""]:
        """The mean of 1 - label y, or of the hinge: see `QNN`.

        Args:
            output: predictions.
            target: class numbers, 0 and 1, or labels, -1 and +1.
        """
        return self.qnn.loss(output, target)


def _checked(network: Mapping[str, Any] | None) -> dict[str, Any]:
    """The options of `QNN`, if they are some.

    Raises:
        TypeError: no dictionary, or an option that there is not, with the nearest.
    """
    accepted = [name for name in inspect.signature(QNN).parameters if name not in ("n_data", "device", "dtype")]
    if network is not None and not isinstance(network, Mapping):
        raise TypeError(
            f"network must be a dictionary of options of QNN ({', '.join(accepted)}), such as {{'layers': ['ZX', "
            f"'XX']}}, got {network!r}"
        )
    check_keywords(network or {}, accepted, "network")
    return dict(network or {})


def _check_pixels(images: Tensor) -> None:
    wrong = ~(images.abs() <= _FAR)
    if not bool(wrong.any()):
        return
    k = int(wrong.flatten(1).any(1).nonzero()[0])
    pixel = float(images[k][wrong[k]][0])
    if pixel != pixel:
        raise ValueError(f"image {k} has NaN")
    raise ValueError(f"image {k} has a pixel of {pixel:.4g}, the threshold is for pixels from 0 to 1; x / 255?")
