"""Networks that can be stitched: which family a model is of, and its pieces."""

from timm.models.convnext import ConvNeXt
from timm.models.levit import Levit
from timm.models.regnet import RegNet
from timm.models.resnet import ResNet
from timm.models.resnetv2 import ResNetV2
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from zoo.models.stitching.anchors.anchor import LAYOUTS as LAYOUTS
from zoo.models.stitching.anchors.anchor import Anchor as Anchor
from zoo.models.stitching.anchors.anchor import Piece as Piece
from zoo.models.stitching.anchors.resnet import RegNetAnchor, ResNetAnchor
from zoo.models.stitching.anchors.spec import AnchorSpec as AnchorSpec
from zoo.models.stitching.anchors.spec import SpecAnchor
from zoo.models.stitching.anchors.staged import ConvNeXtAnchor, LeViTAnchor, ResNetV2Anchor, SwinAnchor
from zoo.models.stitching.anchors.vit import ViTAnchor

_FAMILIES = {
    AnchorSpec: SpecAnchor,
    VisionTransformer: ViTAnchor,
    SwinTransformer: SwinAnchor,
    SwinTransformerV2: SwinAnchor,
    ConvNeXt: ConvNeXtAnchor,
    ResNet: ResNetAnchor,
    ResNetV2: ResNetV2Anchor,
    RegNet: RegNetAnchor,
    Levit: LeViTAnchor,
}


def anchor_of(model: nn.Module) -> Anchor:
    """The pieces of a model.

    Raises:
        TypeError: a model of another family.
    """
    for family, anchor in _FAMILIES.items():
        if isinstance(model, family):
            return anchor(model)
    families = ", ".join(family.__name__ for family in _FAMILIES if family is not AnchorSpec)
    raise TypeError(
        f"a {type(model).__name__} cannot be cut into blocks by itself: anchors are {families} of timm, or an "
        "AnchorSpec of your own (stem, stages, head, widths, layout)"
    )
