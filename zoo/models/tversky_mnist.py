"""A small convolutional network with a Tversky projection as its classifier: the example of the authors' library.

Source: "Tversky Neural Networks: Psychologically Plausible Deep Learning with Differentiable Tversky Similarity" (2025,
arXiv 2506.11035). Layer names, and so the state dict, are those of the example.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from timm.layers import SelectAdaptivePool2d
from timm.models._features_fx import register_notrace_module
from timm.models._input import update_model_input_size
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from zoo.layers.tversky import TverskyProjection
from zoo.models.image_contract import check_image, is_traced, taken_stages

register_notrace_module(TverskyProjection)  # it checks names and sizes in Python

_POOLS = ("", "avg", "max", "avgmax", "catavgmax")
_STAGES = 3
_SMALLEST = 4  # two poolings by 2 leave one pixel


class TverskyMnistCnn(nn.Module):
    """Image classifier: three pairs of 3x3 convolutions, two max poolings between them, pooling, a Tversky projection.

    Each pair is convolution, ReLU, convolution, without an activation after the second: the measures of the projection
    see negative features too.

    (B, in_chans, H, W) -> (B, num_classes), for any H and W of at least 4.

    Args:
        num_classes: 0 for no classifier.
        in_chans: image channels.
        img_size: size of the images it will be given, one side or (height, width). Every size works; this one is
            recorded for `zoo.data_config`.
        global_pool: "avg", "max", "avgmax", "catavgmax", or "" to keep the map (without classifier).
        dims: widths of the three pairs.
        projection: further options of `TverskyProjection`, such as {"num_features": 64, "init": "uniform"}; it has
            `dims[-1]` features otherwise.

    Raises:
        ValueError: an option out of range; in the call, an image too small, of the wrong rank or channels.
        TypeError: in the call, an integer image.
    """

    feature_cfg: ClassVar[dict[str, Any]] = {"out_indices": (0, 1, 2), "feature_cls": "getter"}

    def __init__(
        self,
        num_classes: int = 10,
        in_chans: int = 1,
        *,
        img_size: int | Sequence[int] | None = None,
        global_pool: str = "avg",
        dims: Sequence[int] = (12, 12, 36),
        projection: Mapping[str, Any] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if len(dims) != _STAGES or any(d < 1 for d in dims):
            raise ValueError(f"dims must be three widths of at least 1, got {tuple(dims)}")
        if in_chans < 1:
            raise ValueError(f"in_chans must be an int ≥ 1, got {in_chans}")
        self.in_chans = in_chans
        self.num_features = self.head_hidden_size = dims[-1]
        self.grad_checkpointing = False
        self._projection = dict(projection or {})
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        first, second, third = dims
        # In the order of their calls, for timm's extractors of features.
        self.conv1 = nn.Conv2d(in_chans, first, 3, padding=1, **dd)
        self.act1 = nn.ReLU()
        self.conv2 = nn.Conv2d(first, first, 3, padding=1, **dd)
        self.pool1 = nn.MaxPool2d(2)
        self.conv3 = nn.Conv2d(first, second, 3, padding=1, **dd)
        self.act2 = nn.ReLU()
        self.conv4 = nn.Conv2d(second, second, 3, padding=1, **dd)
        self.pool2 = nn.MaxPool2d(2)
        self.conv5 = nn.Conv2d(second, second, 3, padding=1, **dd)
        self.act3 = nn.ReLU()
        self.conv6 = nn.Conv2d(second, third, 3, padding=1, **dd)
        self.feature_info = [
            {"num_chs": width, "reduction": 2**i, "module": f"conv{2 * i + 2}"} for i, width in enumerate(dims)
        ]
        self.global_pool: nn.Module = nn.Identity()
        self.tproj: nn.Module = nn.Identity()
        self._make_head(num_classes, global_pool, dd)
        if img_size is not None:
            self.set_input_size(img_size)

    def set_input_size(self, img_size: int | Sequence[int] | None = None) -> None:
        """Record another image size for `zoo.data_config`; nothing in the model depends on it.

        Raises:
            ValueError: images of that size are too small for the model.
        """
        if img_size is not None:
            height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
            _check_size(height, width)
            update_model_input_size(self, (height, width))

    def init_weights(self) -> None:
        """Draw every parameter anew, as at construction; completes a model moved off the meta device by `to_empty`."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | TverskyProjection):
                module.reset_parameters()

    def no_weight_decay(self) -> set[str]:
        """Names of the weights of the similarity: theta, alpha, beta."""
        return {name for name, parameter in self.named_parameters() if parameter.ndim == 0}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns that sort parameters into layers: a convolution each, or a pair of them if `coarse`."""
        if coarse:
            return {"stem": r"^conv[12]\.", "blocks": [(r"^conv[34]\.", (0,)), (r"^conv[56]\.", (1,))]}
        return {"stem": r"^conv1\.", "blocks": r"^conv(\d)"}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each pair of convolutions in the backward pass instead of keeping its activations."""
        self.grad_checkpointing = enable

    def get_classifier(self) -> nn.Module:
        return self.tproj

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new Tversky projection on the model's device, in its dtype and mode.

        Args:
            num_classes: 0 removes it.
            global_pool: None keeps the pooling.
        """
        like = self.conv1.weight
        pool = getattr(self.global_pool, "pool_type", "") if global_pool is None else global_pool
        self._make_head(num_classes, pool, {"device": like.device, "dtype": like.dtype})
        self.global_pool.train(self.training)
        self.tproj.train(self.training)

    def _make_head(self, num_classes: int, global_pool: str, dd: dict[str, Any]) -> None:
        if global_pool not in _POOLS:
            raise ValueError(f"global_pool must be one of {', '.join(map(repr, _POOLS))}, got {global_pool!r}")
        if num_classes < 0:
            raise ValueError(f"num_classes must be an int ≥ 0, got {num_classes}")
        pool = SelectAdaptivePool2d(pool_type=global_pool, flatten=bool(global_pool))
        self.num_classes = num_classes
        self.head_hidden_size = self.num_features * (pool.feat_mult() if global_pool else 1)
        self.global_pool = pool
        self._pools = bool(global_pool)
        if num_classes:
            self.tproj = TverskyProjection(self.head_hidden_size, num_classes, **{**self._projection, **dd})
        else:
            self.tproj = nn.Identity()

    def forward_features(self, x: Float[Tensor, "batch chans height width"]) -> Float[Tensor, "batch dim h w"]:
        """The map of the last convolution, (B, num_features, H / 4, W / 4), rounded down."""
        # type: (Tensor) -> Tensor
        if not torch.jit.is_scripting():
            self._check_image(x)
            if self.grad_checkpointing:
                for stage in self._stages():
                    x = checkpoint(stage, x, use_reentrant=False)  # pyright: ignore[reportAssignmentType]
                return x
        return self.stage3(self.stage2(self.stage1(x)))

    def stage1(self, x):
        # type: (Tensor) -> Tensor
        return self.conv2(self.act1(self.conv1(x)))

    def stage2(self, x):
        # type: (Tensor) -> Tensor
        return self.conv4(self.act2(self.conv3(self.pool1(x))))

    def stage3(self, x):
        # type: (Tensor) -> Tensor
        return self.conv6(self.act3(self.conv5(self.pool2(x))))

    @torch.jit.unused
    def _stages(self) -> list[Any]:
        return [self.stage1, self.stage2, self.stage3]

    def forward_head(self, x: Float[Tensor, "batch dim h w"], pre_logits: bool = False) -> Float[Tensor, "batch *out"]:
        """Pool and classify a map of `forward_features`; with `pre_logits` only pool."""
        # type: (Tensor, bool) -> Tensor
        x = self.global_pool(x)
        if self.num_classes > 0 and not pre_logits and not self._pools:
            raise ValueError(
                "global_pool='' keeps the map, which a classifier cannot read: reset_classifier with a pooling"
            )
        return x if pre_logits else self.tproj(x)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, num_classes); the pooled features, or the map, of a model without classifier."""
        # Plain annotations: torch.fx writes those of the root into the code that it generates.
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(
        self,
        x: Float[Tensor, "batch chans height width"],
        indices: int | list[int] | tuple[int, ...] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """Maps of chosen pairs of convolutions, and the result of `forward_features`.

        Args:
            x: images.
            indices: the last n pairs (int), these pairs (list, negative from the end), or all (None).
            norm: taken for timm; there is no norm.
            stop_early: run no pair behind the last one that was asked for.
            output_fmt: only "NCHW".
            intermediates_only: leave out the result of `forward_features`.

        Returns:
            A list of maps, or (features, list).

        Raises:
            ValueError: another output format, or an index out of range.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt must be 'NCHW', got {output_fmt!r}")
        take, last = taken_stages(indices, len(self.feature_info), "pairs")
        self._check_image(x)
        maps = []
        for i, stage in enumerate(self._stages()[: len(self.feature_info)]):
            if stop_early and i > last:
                break
            x = checkpoint(stage, x, use_reentrant=False) if self.grad_checkpointing else stage(x)  # pyright: ignore[reportAssignmentType]
            if i in take:
                maps.append(x)
        return maps if intermediates_only else (x, maps)

    def prune_intermediate_layers(
        self, indices: int | list[int] | tuple[int, ...] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the pairs behind the last one in `indices`, in place; returns the indices, non-negative.

        The classifier fits the last pair alone and goes with it.
        """
        take, last = taken_stages(indices, len(self.feature_info), "pairs")
        shortened = last < len(self.feature_info) - 1
        for i in range(last + 1, len(self.feature_info)):
            for name in (f"pool{i}", f"conv{2 * i + 1}", f"act{i + 1}", f"conv{2 * i + 2}"):
                setattr(self, name, nn.Identity())
        self.feature_info = self.feature_info[: last + 1]
        if shortened or prune_head:
            self.num_features = self.feature_info[last]["num_chs"]
            self.reset_classifier(0, "" if prune_head else None)
        return take

    def _check_image(self, x: Tensor) -> None:
        if is_traced(x):
            return
        check_image(x, self.in_chans)
        _check_size(*x.shape[-2:])


def _check_size(height: int, width: int) -> None:
    if min(height, width) < _SMALLEST:
        raise ValueError(
            f"an image of {height}×{width} is too small: two poolings by 2 leave nothing of it; the smallest side is "
            f"{_SMALLEST}"
        )
