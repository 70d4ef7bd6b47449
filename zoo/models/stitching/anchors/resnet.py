"""Residual networks of timm whose stages are their blocks: ResNet and RegNet."""

from typing import ClassVar

from torch import Tensor, nn

from zoo.models.stitching.anchors.anchor import Anchor, Stage


def _stages(model: nn.Module, names: list[str]) -> tuple[Stage, ...]:
    info = {row["module"]: row for row in model.feature_info}  # pyright: ignore[reportGeneralTypeIssues]
    return tuple(
        Stage(
            tuple(f"{name}.{block}" for block, _ in model.get_submodule(name).named_children()),
            info[name]["num_chs"],
            info[name]["reduction"],
        )
        for name in names
    )


class ResNetAnchor(Anchor):
    """`ResNet` and those built by it: ResNeXt, SE-ResNet, Wide ResNet."""

    first_stitched: ClassVar[int] = 1

    def __init__(self, model: nn.Module) -> None:
        super().__init__(
            model,
            _stages(model, [f"layer{i}" for i in range(1, 5)]),
            stem_names=("conv1", "bn1", "act1", "maxpool"),
            head_names=("global_pool", "fc"),
        )

    @staticmethod
    def run_stem(model: nn.Module, x: Tensor) -> Tensor:
        return model.maxpool(model.act1(model.bn1(model.conv1(x))))  # pyright: ignore[reportCallIssue]


class RegNetAnchor(Anchor):
    """`RegNet`."""

    first_stitched: ClassVar[int] = 1

    def __init__(self, model: nn.Module) -> None:
        super().__init__(
            model,
            _stages(model, [f"s{i}" for i in range(1, 5)]),
            stem_names=("stem",),
            norm_names=("final_conv",),
            head_names=("head",),
        )
