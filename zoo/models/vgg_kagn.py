"""VGG-KAGN: a plain VGG whose convolutions are over Gram polynomials.

Source: "Kolmogorov-Arnold Convolutions: Design Principles and Empirical Studies" (2024, arXiv 2407.01092), and the
authors' published models. The names of the blocks, and so most of the state dict, are those of the released code.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from timm.layers import SelectAdaptivePool2d
from timm.models._features_fx import register_notrace_module
from timm.models._input import update_model_input_size
from torch import Tensor, nn

from zoo.layers.kan.conv import BottleneckGramConv2d, GramConv2d
from zoo.layers.kan.conv.bottleneck import bottleneck_width
from zoo.layers.kan.options import check_choice
from zoo.models.checkpointing import checkpoint_block
from zoo.models.image_contract import check_image, is_traced, taken_stages

# They check sizes and choose a path in Python: leaves for torch.fx.
for _leaf in (GramConv2d, BottleneckGramConv2d):
    register_notrace_module(_leaf)

_POOLS = ("", "avg", "max", "avgmax", "catavgmax")
_LAYERS = ("gram", "bottleneck")
_RGB = 3


class VGGKAGN(nn.Module):
    """Image classifier: stages of 3x3 Gram convolutions with max poolings between them, pooling, one linear layer.

    (B, in_chans, H, W) -> (B, num_classes), for any H and W that leave the last map two pixels (one, with batch norm).

    Args:
        dims: widths of the convolutions, a row a stage.
        num_classes: 0 for no classifier.
        in_chans: image channels.
        img_size: size of the images it will be given, one side or (height, width). Every size works that the poolings
            leave something of; this one is recorded for `zoo.data_config`.
        global_pool: "avg", "max", "avgmax", "catavgmax", or "" to keep the map (without classifier).
        layer: "gram" for `GramConv2d`, "bottleneck" for `BottleneckGramConv2d`.
        degree: of the polynomials.
        reduction: of the bottlenecks. The first is as wide whatever `in_chans` is, so that its weights fit.
        norm: "instance" or "batch".
        conv_drop: dropout in the convolutions.
        drop_rate: dropout before the classifier.
        backend: see `gram_conv2d`.

    Raises:
        ValueError: an option out of range; in the call, an image too small, of the wrong rank or channels.
        TypeError: in the call, an integer image.
    """

    feature_cfg: ClassVar[dict[str, Any]] = {
        "out_indices": (0, 1, 2, 3, 4, 5),
        "feature_cls": "getter",
        "flatten_sequential": True,  # read by timm's "list" and "dict" extractors
    }

    def __init__(
        self,
        dims: Sequence[Sequence[int]] = ((32,), (64,), (128, 128), (256, 256), (256, 256), (256, 256)),
        *,
        num_classes: int = 1000,
        in_chans: int = 3,
        img_size: int | Sequence[int] | None = None,
        global_pool: str = "avg",
        layer: str = "gram",
        degree: int = 5,
        reduction: int | float = 8,
        norm: str = "instance",
        conv_drop: float = 0.0,
        drop_rate: float = 0.25,
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not dims or not all(isinstance(stage, Sequence) and stage for stage in dims):
            raise ValueError(f"dims must be rows of widths, one or more, got {dims!r}")
        if in_chans < 1:
            raise ValueError(f"in_chans must be an int ≥ 1, got {in_chans}")
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.num_features = self.head_hidden_size = dims[-1][-1]
        self.grad_checkpointing = False
        self._fewest = 1 if check_choice("norm", norm, ("instance", "batch")) == "batch" else 2
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        options: dict[str, Any] = {"degree": degree, "norm": norm, "dropout": conv_drop, "backend": backend, **dd}
        if check_choice("layer", layer, _LAYERS) == "bottleneck":
            options["reduction"] = reduction
        make = GramConv2d if layer == "gram" else BottleneckGramConv2d
        blocks: list[nn.Module] = []
        self.feature_info: list[dict[str, Any]] = []
        chans = in_chans
        for i, stage in enumerate(dims):
            blocks += [nn.MaxPool2d(2)] if i else []
            for width in stage:
                own = dict(options)
                if layer == "bottleneck" and not blocks:
                    own["width"] = bottleneck_width(_RGB, width, reduction)
                blocks.append(make(chans, width, 3, padding=1, **own))
                chans = width
            self.feature_info.append({"num_chs": chans, "reduction": 2**i, "module": f"features.{len(blocks) - 1}"})
        self.features = nn.Sequential(*blocks)
        self.global_pool: nn.Module = nn.Identity()
        self.classifier = nn.Sequential(nn.Dropout(drop_rate), nn.Identity())
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
            self._check_size(height, width)
            update_model_input_size(self, (height, width))

    def init_weights(self) -> None:
        """Draw every parameter anew, as at construction; completes a model moved off the meta device by `to_empty`."""
        for block in (*self.features, *self.classifier):
            if hasattr(block, "reset_parameters"):
                block.reset_parameters()  # pyright: ignore[reportCallIssue]

    def no_weight_decay(self) -> set[str]:
        """Names of the coefficients of the polynomials, and of norm scales and shifts."""
        return {name for name, p in self.named_parameters() if p.ndim <= 1 and name.startswith("features.")}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns that sort parameters into layers: a convolution each, or a stage if `coarse`."""
        if not coarse:
            return {"stem": r"^features\.0\.", "blocks": r"^features\.(\d+)"}
        ends = [int(row["module"].split(".")[1]) for row in self.feature_info]
        starts = [0, *(end + 1 for end in ends)]
        stages = [
            (rf"^features\.(?:{'|'.join(map(str, range(first, end + 1)))})\.", (i,))
            for i, (first, end) in enumerate(zip(starts, ends, strict=False))
        ]
        return {"stem": stages[0][0], "blocks": stages[1:]}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping its activations."""
        self.grad_checkpointing = enable

    def get_classifier(self) -> nn.Module:
        return self.classifier[1]

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new linear layer on the model's device, in its dtype and mode.

        Args:
            num_classes: 0 removes it.
            global_pool: None keeps the pooling.
        """
        like = next(self.features.parameters())
        pool = getattr(self.global_pool, "pool_type", "") if global_pool is None else global_pool
        self._make_head(num_classes, pool, {"device": like.device, "dtype": like.dtype})
        self.global_pool.train(self.training)
        self.classifier.train(self.training)

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
        self.classifier[1] = nn.Linear(self.head_hidden_size, num_classes, **dd) if num_classes else nn.Identity()

    def forward_features(self, x: Float[Tensor, "batch chans height width"]) -> Float[Tensor, "batch dim h w"]:
        """The map of the last convolution, (B, num_features, H / 32, W / 32), rounded down."""
        # type: (Tensor) -> Tensor
        if not torch.jit.is_scripting():
            self._check_image(x)
            if self.grad_checkpointing:
                for block in self.features:
                    x = checkpoint_block(block, x)
                return x
        return self.features(x)

    def forward_head(self, x: Float[Tensor, "batch dim h w"], pre_logits: bool = False) -> Float[Tensor, "batch *out"]:
        """Pool and classify a map of `forward_features`; with `pre_logits` only pool."""
        # type: (Tensor, bool) -> Tensor
        x = self.global_pool(x)
        if pre_logits or self.num_classes == 0:
            return x
        if not self._pools:
            raise ValueError(
                "global_pool='' keeps the map, which a classifier cannot read: reset_classifier with a pooling"
            )
        return self.classifier(x)

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
        """Maps of chosen stages, before their pooling, and the result of `forward_features`.

        Args:
            x: images.
            indices: the last n stages (int), these stages (list, negative from the end), or all (None).
            norm: taken for timm; there is no norm at the end.
            stop_early: run no stage behind the last one that was asked for.
            output_fmt: only "NCHW".
            intermediates_only: leave out the result of `forward_features`.

        Returns:
            A list of maps, or (features, list).

        Raises:
            ValueError: another output format, or an index out of range.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt must be 'NCHW', got {output_fmt!r}")
        take, last = taken_stages(indices, len(self.feature_info))
        self._check_image(x)
        taken = {self.feature_info[i]["module"] for i in take}
        end = self.feature_info[last if stop_early else -1]["module"]
        maps = []
        for name, block in self.features.named_children():
            x = checkpoint_block(block, x) if self.grad_checkpointing else block(x)
            if f"features.{name}" in taken:
                maps.append(x)
            if f"features.{name}" == end:
                break
        return maps if intermediates_only else (x, maps)

    def prune_intermediate_layers(
        self, indices: int | list[int] | tuple[int, ...] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the stages behind the last one in `indices`, in place; returns the indices, non-negative.

        The classifier fits the last stage alone and goes with it.
        """
        take, last = taken_stages(indices, len(self.feature_info))
        shortened = last < len(self.feature_info) - 1
        end = int(self.feature_info[last]["module"].split(".")[1])
        self.features = self.features[: end + 1]
        self.feature_info = self.feature_info[: last + 1]
        if shortened or prune_head:
            self.num_features = self.feature_info[last]["num_chs"]
            self.reset_classifier(0, "" if prune_head else None)
        return take

    def fuse(self) -> "VGGKAGN":
        """Fold batch norms into the convolutions before them, in place, and switch to evaluation.

        Outputs stay the same up to rounding. The fused state dict has other names: save the model before.
        """
        self.eval()
        for block in self.features:
            if isinstance(block, GramConv2d | BottleneckGramConv2d):
                block.fuse()
        return self

    def _check_image(self, x: Tensor) -> None:
        if is_traced(x):
            return
        check_image(x, self.in_chans)
        self._check_size(*x.shape[-2:])

    def _check_size(self, height: int, width: int) -> None:
        total = self.feature_info[-1]["reduction"]
        if (height // total) * (width // total) < self._fewest:
            smallest = total if self._fewest == 1 else f"{total}×{2 * total}"
            raise ValueError(
                f"an image of {height}×{width} is too small: its sides are divided by {total}, and the norms need "
                f"{self._fewest} pixel(s) of it; the smallest is {smallest}"
            )
