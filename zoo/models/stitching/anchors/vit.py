"""Plain vision transformers of timm: ViT, DeiT, DeiT-III, with registers or without; one stage of blocks on tokens."""

from typing import ClassVar

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from zoo.models.stitching.anchors.anchor import Anchor, Stage


class ViTAnchor(Anchor):
    """A `VisionTransformer`: its stem ends with positions and prefix tokens, its head begins with the pooling."""

    layout: ClassVar[str] = "tokens"
    sized_by_stem: ClassVar[bool] = True

    def __init__(self, model: VisionTransformer) -> None:
        blocks = tuple(f"blocks.{i}" for i in range(len(model.blocks)))
        patch = model.patch_embed.patch_size
        head = ("attn_pool", "fc_norm", "head_drop", "head", "head_dist")
        own = [name for name, _ in (*model.named_children(), *model.named_parameters(recurse=False))]
        super().__init__(
            model,
            (Stage(blocks, model.embed_dim, patch[0]),),
            stem_names=tuple(name for name in own if name not in ("blocks", "norm", *head)),
            norm_names=("norm",),
            head_names=tuple(name for name in own if name in head),
            num_prefix_tokens=model.num_prefix_tokens,
        )

    @staticmethod
    def run_stem(model: nn.Module, x: Tensor) -> Tensor:
        assert isinstance(model, VisionTransformer)
        return model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(x))))
