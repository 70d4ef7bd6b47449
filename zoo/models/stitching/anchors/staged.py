"""Networks of timm whose stages hold what leads into them and their blocks: Swin, ConvNeXt, ResNetV2, LeViT."""

import math
from typing import ClassVar

from torch import Tensor, nn

from zoo.models.stitching.anchors.anchor import Anchor, Stage


def stages_of(model: nn.Module, container: str) -> tuple[Stage, ...]:
    """Stages under `container`, with their widths and reductions from `feature_info`."""
    info = {row["module"]: row for row in model.feature_info}  # pyright: ignore[reportGeneralTypeIssues]
    found = []
    for s, stage in enumerate(model.get_submodule(container).children()):
        name = f"{container}.{s}"
        blocks = tuple(f"{name}.blocks.{i}" for i, _ in enumerate(stage.get_submodule("blocks").children()))
        entered = not isinstance(getattr(stage, "downsample", nn.Identity()), nn.Identity)
        row = info[name]
        found.append(Stage(blocks, row["num_chs"], row["reduction"], f"{name}.downsample" if entered else ""))
    return tuple(found)


class SwinAnchor(Anchor):
    """`SwinTransformer` and `SwinTransformerV2`; maps (B, H, W, C)."""

    layout: ClassVar[str] = "nhwc"

    def __init__(self, model: nn.Module) -> None:
        super().__init__(
            model,
            stages_of(model, "layers"),
            stem_names=("patch_embed",),
            norm_names=("norm",),
            head_names=("head",),
        )

    @staticmethod
    def run_stem(model: nn.Module, x: Tensor) -> Tensor:
        return model.patch_embed(x)  # pyright: ignore[reportCallIssue]


class ConvNeXtAnchor(Anchor):
    """`ConvNeXt`, first and second version; the norm before the head is within it, or `norm_pre`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(
            model,
            stages_of(model, "stages"),
            stem_names=("stem",),
            norm_names=("norm_pre",),
            head_names=("head",),
        )


class ResNetV2Anchor(Anchor):
    """`ResNetV2`; what halves a map is inside the first block of a stage."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(
            model, stages_of(model, "stages"), stem_names=("stem",), norm_names=("norm",), head_names=("head",)
        )


class LeViTAnchor(Anchor):
    """`Levit` and `LevitDistilled` on tokens; a block is an attention and its MLP."""

    layout: ClassVar[str] = "tokens"

    def __init__(self, model: nn.Module) -> None:
        if model.use_conv:
            raise ValueError("a LeViT of convolutions (levit_conv_*) is not cut into blocks on tokens; use levit_*")
        heads = tuple(name for name in ("head", "head_dist") if hasattr(model, name))
        super().__init__(model, stages_of(model, "stages"), stem_names=("stem",), head_names=heads)

    @property
    def img_size(self) -> tuple[int, int] | None:
        # The biases of its attentions are of one grid, a square here.
        tokens = self.model.get_buffer(f"{self.stages[0].blocks[0]}.attn.attention_bias_idxs").shape[-1]
        side = math.isqrt(tokens) * self.stages[0].reduction
        return (side, side)

    @staticmethod
    def run_stem(model: nn.Module, x: Tensor) -> Tensor:
        return model.stem(x).flatten(2).transpose(1, 2)  # pyright: ignore[reportCallIssue]
