"""PCSR: super-resolution that decides for every pixel how much work it is worth.

"Accelerating Image Super-Resolution Networks with Pixel-Level Classification", Jeong et al., ECCV 2024,
arXiv:2407.21448.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from zoo.eager import must_compose
from zoo.layers.pixel_adaptive.coordinates import Size, check_size, output_size
from zoo.layers.pixel_adaptive.decide import adm_classes, argmax_classes, hardness, target_classes
from zoo.layers.pixel_adaptive.heads import PixelHeads
from zoo.layers.pixel_adaptive.loss import pcsr_loss
from zoo.layers.pixel_adaptive.reference import bilinear_at
from zoo.layers.pixel_adaptive.refine import refine_, refined
from zoo.layers.pixel_adaptive.routing import values_of_all
from zoo.models.super_resolution import flops as counting
from zoo.models.super_resolution.backbone import BackboneLike, channels_of, features_of, make_backbone, place_of
from zoo.models.super_resolution.checks import Policy, check_places, check_target, wanted_size
from zoo.models.super_resolution.images import check_images, check_values
from zoo.models.super_resolution.info import EnlargementInfo
from zoo.models.super_resolution.network import Normalisation
from zoo.models.super_resolution.tiles import quick_features
from zoo.models.super_resolution.upscale import upscale

#: timm's configuration of a network that takes images in [0, 1].
IMAGES: dict[str, Any] = {
    "architecture": "pcsr",
    "num_classes": 0,
    "mean": (0.0, 0.0, 0.0),
    "std": (1.0, 1.0, 1.0),
}


class PCSR(PixelHeads):
    """y = bilinear(x) + network_j(features at the pixel), with the class j of each pixel decided by a classifier.

    The backbone runs once, at the size of the small image. The image is normalised inside.

    In training, `forward` gives the mean of all networks by the probabilities of their classes; `train_queries` gives
    that of single pixels, which is how the authors train: with `phase(0)` the backbone and the heaviest network, with
    `phase(1)` the others and the classifier. Alone, one class, is `policy="light"` or `"heavy"`, in training too.

    Shapes: (batch, in_chans, height, width) in [0, 1] to (batch, in_chans, new_height, new_width), not clamped.

    Args:
        backbone: "fsrcnn", "carn" or "srresnet", a name of timm's, a mapping of a "name" and options, or a module that
            keeps the size of the image.
        upsamplers: widths of the hidden layers of the networks, from light to heavy.
        classifier: widths of the hidden layers of the classifier.
        mean, std: of the channels of images in [0, 1]; 0 and 1 if None.
        scale: the one that it learns, and enlarges by where neither scale nor size are given; None for any.
        in_chans: channels of the image.

    Raises:
        ValueError: fewer than two networks, networks not ascending in cost, means and deviations that do not fit, an
            unknown backbone, a scale below 1.
        TypeError: widths or a scale that are none.
    """

    task: ClassVar[str] = "super-resolution"

    def __init__(
        self,
        backbone: BackboneLike,
        upsamplers: Sequence[Sequence[int]] = ((20, 20, 20), (74, 74, 74, 74)),
        classifier: Sequence[int] = (10, 10),
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        scale: float | int | None = 4,
        in_chans: int = 3,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        place: Any = {"device": device, "dtype": dtype}
        made = make_backbone(backbone, in_chans, place)
        super().__init__(channels_of(made, in_chans), in_chans, upsamplers, classifier, **place_of(made, place))
        if scale is not None:
            _check_scale(scale)
        self.encoder = made  # the authors' name
        self.scale, self.in_chans = scale, in_chans
        self.normalisation = Normalisation(mean, std, in_chans)
        self._phase: int | None = None
        self._looked = False
        self._costs: dict[float, tuple[float, ...]] = {}
        if not isinstance(backbone, nn.Module):  # what it is saved with; a module has no name to be made again by
            self.num_classes = 0
            # Without a scale of its own it cannot be tried on a lone image.
            self.pretrained_cfg: Any = {**IMAGES, "input_size": None if scale is None else (in_chans, 32, 32)}
            self._model_args = {
                "backbone": backbone if isinstance(backbone, str) else dict(backbone),
                "upsamplers": [list(widths) for widths in upsamplers],
                "classifier": list(classifier),
                "mean": list(self.normalisation.mean),
                "std": list(self.normalisation.std),
                "scale": scale,
                "in_chans": in_chans,
            }

    def forward(
        self,
        x: Tensor,
        scale: float | int | None = None,
        *,
        size: Sequence[int] | None = None,
        policy: str = "argmax",
        k: float | int = 0.0,
        target: float | int | None = None,
        refine: bool = True,
        adm_scope: str = "image",
        return_info: bool = False,
    ) -> Float[Tensor, "batch in_chans new_height new_width"] | tuple[Tensor, EnlargementInfo]:
        """The enlarged image.

        Args:
            x: images (batch, in_chans, height, width) in [0, 1].
            scale: how much larger, any number from 1; the learnt one if neither it nor `size` is given.
            size: (height, width) instead.
            policy: how classes are decided: "argmax" of the probabilities, each divided by the cost of its class to
                the power of k; "adm", by clusters of their hardness; "light" or "heavy", one for all; "target", as
                heavy as a budget allows.
            k: of "argmax"; useful from -1, for more heavy pixels, to 2.
            target: of "target": FLOPs as a part of those with all pixels heavy.
            refine: give pixels beside one of a heavier class the mean around them.
            adm_scope: of "adm": "image", or "batch" for clusters of the pixels of all images, as the authors have it.
            return_info: also return the class map, the fractions of the classes, and what they cost.

        Raises:
            ValueError: images, a size, a policy or a number that cannot be; see `checks`. Values that are not finite,
                or far outside [0, 1] (a warning), are looked for in every call on a CPU, elsewhere in the first one.
            TypeError: images of whole numbers or of another precision than the network, a scale that is no number.
        """
        decided = Policy(policy, k, target, adm_scope)
        enlarged = self._checked(x, scale, size)
        normal = self.normalisation(x)
        features = quick_features(self.encoder, normal)
        if self.training and policy not in ("light", "heavy"):
            self._refuse_in_training(decided, return_info)
            return self.normalisation.undo(_bilinear(normal, enlarged) + self.blended(features, enlarged))
        classes = self.decide(features, enlarged, decided, scale)
        values = self._values(features, classes, policy)
        del features  # for large images memory counts
        base, refine = _bilinear(normal, enlarged), refine and policy not in ("light", "heavy")
        if must_compose(values) or torch.is_grad_enabled() or values.dtype != base.dtype:
            image = base + values
            image = refined(image, classes) if refine else image
        else:
            image = values.add_(base)
            image = refine_(image, classes) if refine else image
        del base, values
        image = self.normalisation.undo(image)
        if not return_info:
            return image
        return image, self._info(classes, (x.shape[2], x.shape[3]), policy)

    def train_queries(
        self,
        x: Tensor,
        coord: Tensor,
        cell: Tensor,
    ) -> tuple[Float[Tensor, "batch queries in_chans"], Float[Tensor, "batch queries classes"] | None]:
        """Values of single pixels of the enlarged images, to learn from, and the probabilities of their classes.

        The mean of all networks by these; in phase 0 the heaviest network alone, and None. See `pcsr_loss`.

        Args:
            x: images (batch, in_chans, height, width) in [0, 1].
            coord: (batch, queries, 2), (y, x) of the pixels, as `make_coords` gives them.
            cell: (batch, queries, 2), their height and width there, 2 / new_height and 2 / new_width.
        """
        check_images(x, self.in_chans, self._dtype)
        check_places(coord, cell, len(x))
        normal = self.normalisation(x)
        features = features_of(self.encoder, normal)
        prob = None
        if self._phase == 0:
            values = self.upsamplers[-1](features, coord, cell)
        else:
            values, prob = self.blended_at(features, coord, cell)
        values = values + bilinear_at(normal, coord)
        return self.normalisation.undo(values.mT.unsqueeze(-1)).squeeze(-1).mT, prob

    def query_loss(
        self, answer: tuple[Tensor, Tensor | None], target: Float[Tensor, "batch queries in_chans"]
    ) -> Tensor:
        """`pcsr_loss` of what `train_queries` gives.

        Args:
            answer: values and probabilities.
            target: what the values are to be, in [0, 1].
        """
        return pcsr_loss(*answer, target)

    def phase(self, number: int | None) -> "PCSR":
        """Choose what learns; the rest gets no gradients.

        Args:
            number: 0, the backbone and the heaviest network; 1, the other networks and the classifier, with backbone
                and heaviest network in evaluation whatever `train()` says, so that batch norms keep their statistics;
                None, everything.

        Returns:
            The model itself.
        """
        if number not in (None, 0, 1):
            raise ValueError(f"phase must be 0, 1 or None, got {number!r}")
        self._phase = number
        for part in (self.encoder, self.upsamplers[-1]):
            part.requires_grad_(number != 1)
        for part in (*self.upsamplers[:-1], self.classifier):
            part.requires_grad_(number != 0)
        return self.train(self.training)

    def learns(self, scale: float | int) -> "PCSR":
        """Take a scale as the one that is learnt: where none is given the model enlarges by it, and is saved with it.

        Args:
            scale: how much larger the image becomes.

        Returns:
            The model itself.

        Raises:
            ValueError, TypeError: no scale.
        """
        _check_scale(scale)
        self.scale = scale
        if hasattr(self, "_model_args"):
            self._model_args = {**self._model_args, "scale": scale}
            if self.pretrained_cfg.get("input_size", ()) is None:  # it had no scale of its own
                self.pretrained_cfg = {**self.pretrained_cfg, "input_size": (self.in_chans, 32, 32)}
        return self

    def train(self, mode: bool = True) -> "PCSR":
        """Training or evaluation mode; in phase 1 what is frozen stays in evaluation."""
        super().train(mode)
        if self._phase == 1:
            self.encoder.eval()
            self.upsamplers[-1].eval()
        return self

    def decide(
        self,
        features: Float[Tensor, "batch c height width"],
        size: Size,
        policy: Policy,
        scale: float | int | None = None,
    ) -> UInt8[Tensor, "batch new_height new_width"]:
        """The class of every pixel of the enlarged image.

        Args:
            features: of the small image.
            size: height and width of the enlarged one.
            policy: how.
            scale: that the size came of, if of one.
        """
        if policy.name in ("light", "heavy"):
            place = 0 if policy.name == "light" else len(self.upsamplers) - 1
            return torch.full((len(features), *size), place, dtype=torch.uint8, device=features.device)
        return self.decide_on(self.scores(features, size), (features.shape[2], features.shape[3]), policy, scale)

    def decide_on(
        self,
        scores: Float[Tensor, "batch classes new_height new_width"],
        small: Size,
        policy: Policy,
        scale: float | int | None = None,
    ) -> UInt8[Tensor, "batch new_height new_width"]:
        """`decide`, where something is to be decided.

        Args:
            scores: the classifier's logits of every pixel of the enlarged image.
            small: height and width of the small one.
            policy: how, neither "light" nor "heavy".
            scale: that the size came of, if of one.
        """
        size, scores = (scores.shape[2], scores.shape[3]), scores.detach()  # a class has no gradient
        if policy.name == "adm":
            return adm_classes(hardness(scores), scores.shape[1], per_image=policy.adm_scope == "image")
        if policy.name == "target":
            assert policy.target is not None
            parts = self.parts(small, size)
            check_target(policy.target, parts)
            budget = policy.target * parts.whole() - parts.backbone - parts.classifier
            return target_classes(scores, self._costs_at(small, size, scale), parts.upsamplers, budget)
        costs = self._costs_at(small, size, scale) if policy.k else None
        return argmax_classes(scores, costs, policy.k)

    def upscale(
        self, image: Any, scale: float | int | None = None, *, size: Sequence[int] | None = None, **options: Any
    ) -> Any:
        """A picture of any size enlarged, tile by tile, in bounded memory: an array (height, width, channels).

        Tiles are computed with what their pixels depend on around them, so that the result is that of `forward`.

        Args:
            image: a path, an image of Pillow, an array (height, width, channels), or a tensor (channels, height,
                width); uint8, uint16, or floating point in [0, 1].
            scale: how much larger; the learnt one if neither it nor `size` is given.
            size: (height, width) instead.
            policy, k, target, refine: as in `forward`; "adm" and "target" take two passes.
            tile: side of a tile in pixels of the small image; "auto" for one that fits into the memory.
            max_memory: what may be taken, the result included, in bytes or as "2GB".
            out: "uint8" or "uint16", rounded and clamped, or "float32".
            return_info: also return what `forward` does.
            on_tile: called with the number of tiles done and that of all.

        Raises:
            ValueError: what `forward` refuses, or too little memory for one tile.
            TypeError: no picture.
        """
        return upscale(self, image, scale, size=size, **options)

    def costs(self, scale: float | int | None = None) -> tuple[float, ...]:
        """What a pixel of each class costs, backbone and network, in parts of 1; no network is run.

        Args:
            scale: how much larger the image becomes; the learnt one if None.

        Raises:
            ValueError: no scale.
        """
        scale = self.scale if scale is None else scale
        if scale is None:
            raise ValueError("costs depend on the scale: give one")
        if scale not in self._costs:
            self._costs[scale] = counting.costs(self.encoder, self.upsamplers, scale)
        return self._costs[scale]

    def flops(
        self,
        size: Size,
        scale: float | int | None = None,
        fractions: Sequence[float] | None = None,
        convention: str = "paper",
        *,
        enlarged: Size | None = None,
    ) -> float | int:
        """FLOPs of an image; no network is run, but for a foreign backbone once without values.

        Args:
            size: height and width of the small image.
            scale: how much larger it becomes; the learnt one if None.
            fractions: of the pixels that are of each class; all of the heaviest if None.
            convention: "paper", "true" or "factorised"; see `flops`.
            enlarged: height and width of the enlarged image, instead of a scale.

        Raises:
            ValueError: no scale, an unknown convention, fractions that do not add up to 1, a size below 1.
            TypeError: a size that is not two whole numbers.
        """
        check_size(size)
        scale = self.scale if scale is None and enlarged is None else scale
        wanted = wanted_size(size, scale, enlarged, None)  # counting is no reason to warn of a scale
        return self.parts(size, wanted, convention).whole(fractions)

    def parts(self, size: Size, enlarged: Size, convention: str = "paper") -> counting.PartFlops:
        """FLOPs of backbone, classifier and each network on all pixels."""
        return counting.part_flops(self.encoder, self.classifier, self.upsamplers, size, enlarged, convention)

    def _checked(self, x: Tensor, scale: float | int | None, size: Sequence[int] | None) -> Size:
        """The size of the enlarged image, of images that are some."""
        check_images(x, self.in_chans, self._dtype)
        wanted = wanted_size((x.shape[2], x.shape[3]), scale, size, self.scale)
        # To look at values on another device is to wait for it: once is enough to find a unit that is wrong.
        if not must_compose(x) and not x.is_meta and not (self._looked and x.device.type != "cpu"):
            self._looked = True
            check_values(x)
        return wanted

    @property
    def _dtype(self) -> torch.dtype:
        return self.classifier.linears[0].weight.dtype

    def _values(self, features: Tensor, classes: Tensor, policy: str) -> Tensor:
        if policy in ("light", "heavy"):
            network = self.upsamplers[0 if policy == "light" else -1]
            return values_of_all(network, features, (classes.shape[1], classes.shape[2]))
        return self.values(features, classes)

    def _costs_at(self, small: Size, enlarged: Size, scale: float | int | None) -> tuple[float, ...]:
        """Of an enlargement that is not the same along both axes, those of the scale of its area."""
        if scale is None and self.scale is not None and output_size(small, self.scale) == enlarged:
            scale = self.scale
        area = enlarged[0] * enlarged[1] / (small[0] * small[1])
        return self.costs(math.sqrt(area) if scale is None else scale)

    def _refuse_in_training(self, policy: Policy, return_info: bool) -> None:
        if policy.name != "argmax" or policy.k or return_info:
            asked = "return_info" if return_info else "k" if policy.k else f"policy={policy.name!r}"
            raise ValueError(
                f"in training mode all networks are blended by their probabilities and nothing is decided, so {asked} "
                "has no meaning; call eval() first"
            )

    def _info(self, classes: Tensor, small: Size, policy: str) -> EnlargementInfo:
        count = len(self.upsamplers)
        fractions = torch.stack([(classes == place).double().mean((1, 2)) for place in range(count)], 1)
        alone = policy in ("light", "heavy")
        flops = {}
        for convention in counting.CONVENTIONS:
            parts = self.parts(small, (classes.shape[1], classes.shape[2]), convention)
            parts = parts._replace(classifier=0) if alone else parts
            flops[convention] = [parts.whole(row) for row in fractions.tolist()]
        return EnlargementInfo(classes, fractions, flops)

    def extra_repr(self) -> str:
        """The scale, mean and deviation."""
        return f"scale={self.scale}, mean={self.normalisation.mean}, std={self.normalisation.std}"


def _check_scale(scale: float | int) -> None:
    output_size((1, 1), scale)
    if scale < 1:
        raise ValueError(f"scale must be at least 1, got {scale}: images can only become larger")


def _bilinear(x: Tensor, size: Size) -> Tensor:
    return F.interpolate(x, size, mode="bilinear", align_corners=False)
