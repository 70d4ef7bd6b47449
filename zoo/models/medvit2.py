"""MedViTV2: a four-stage hybrid of convolutions, neighbourhood attention and Kolmogorov-Arnold networks.

Source: "Medical Image Classification with KAN-Integrated Transformers and Dilated Neighborhood Attention" (2025,
arXiv 2502.13693). The layer names, and so the state dict, are those of the released code, without its dead weights.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from timm.layers import SelectAdaptivePool2d
from timm.models._features_fx import register_notrace_module
from timm.models._input import update_model_input_size
from torch import Tensor, nn

from zoo.layers.kan import FasterKANLayer
from zoo.layers.kan.fasterkan import SwitchGrid
from zoo.layers.medvit2_blocks import GFPBlock, LFPBlock
from zoo.layers.medvit2_parts import ConvNormAct, Device, PooledAttention
from zoo.layers.neighborhood import NeighborhoodAttention2d
from zoo.models.checkpointing import checkpoint_block
from zoo.models.image_contract import is_traced, taken_stages
from zoo.models.medvit2_checks import check_image, check_options, check_size

# They check sizes and choose a path in Python: leaves for torch.fx.
for _leaf in (NeighborhoodAttention2d, FasterKANLayer, PooledAttention):
    register_notrace_module(_leaf)

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm)
_POOLS = ("", "avg", "max", "avgmax", "catavgmax")


def fastest_format(x: Tensor) -> Tensor:
    """Channels-last on a CPU, where convolutions in eager mode are a tenth faster on it.

    Blocks in memory order make their own NCHW copy of what they view.
    """
    if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript skips the inner test only so
        if torch.compiler.is_compiling():
            return x
    return x.contiguous(memory_format=torch.channels_last) if x.device.type == "cpu" else x


torch.fx.wrap("fastest_format")


def _plan(stage: int, depth: int) -> list[str]:
    """The kinds of block in a stage (0-based), in order."""
    if stage == 0:
        return ["local"] * depth
    if stage == 1:
        return ["local"] * (depth - 1) + ["global"]
    return ["local", "local", "global"] * (depth // 3) if stage == 2 else ["global"] * depth


class MedViT2(nn.Module):
    """Image classifier: stem, four stages of local and global blocks, batch norm, pooling, one linear layer.

    Stage 1 is local blocks; stage 2 ends in a global one; stage 3 repeats (local, local, global); stage 4 is global
    blocks. The first block of stages 2 to 4 halves the resolution, rounding up. Any height and width work as long as
    the maps hold the neighbourhoods.

    (B, in_chans, H, W) -> (B, num_classes).

    Args:
        dims: widths of the stages, multiples of `head_dim`.
        depths: blocks per stage; stage 2 at least 1, stage 3 a multiple of 3.
        num_classes: 0 for no classifier.
        in_chans: image channels.
        img_size: size of the images it will be given, one side or (height, width). Every size works that the maps can
            hold; this one is checked now and recorded for `zoo.data_config`. Default: the registered size.
        global_pool: "avg", "max", "avgmax", "catavgmax", or "" to keep the map (without classifier).
        stem_chs: (a, b, c) for convolutions in_chans -> a -> b -> c -> c.
        stem_strides: of the four convolutions.
        kernel_sizes, dilations: of the neighbourhood attention, per stage (stage 4 has none). The published models
            have dilation 1 throughout; the paper describes (8, 4, 2, 1). Dilation has no weights.
        sr_ratios: square root of the tokens per key in global blocks, per stage (stage 1 has none).
        conv_kernel_sizes: of the local feed-forward, per stage.
        head_dim: channels of a head.
        mix_block_ratio: share of the self-attention in a global block.
        token_order: "memory", in which the published weights were trained, or "spatial", see `to_tokens`.
        drop_path_rate: of the last block; the others rise to it linearly from 0.
        drop_rate: dropout of the attention weights in local blocks and of the projection in global ones.
        attn_drop: dropout of the attention weights in global blocks.
        kan_base_branch: SiLU branch in every KAN layer.
        attn_backend: see `NeighborhoodAttention2d`.
        kan_backend: see `switch_linear`.

    Raises:
        ValueError: an option out of range; in the call, an image too small, of the wrong rank or channels, or a
            training batch with one value per channel.
        TypeError: in the call, an integer image.
    """

    feature_cfg: ClassVar[dict[str, Any]] = {
        "out_indices": (0, 1, 2, 3),
        "feature_cls": "getter",
        "flatten_sequential": True,  # read by timm's "list" and "dict" extractors
    }

    def __init__(
        self,
        dims: Sequence[int] = (64, 128, 256, 512),
        depths: Sequence[int] = (2, 2, 6, 2),
        *,
        num_classes: int = 1000,
        in_chans: int = 3,
        img_size: int | Sequence[int] | None = None,
        global_pool: str = "avg",
        stem_chs: Sequence[int] = (64, 32, 64),
        stem_strides: Sequence[int] = (2, 1, 1, 2),
        kernel_sizes: Sequence[int] = (7, 7, 7, 7),
        dilations: Sequence[int] = (1, 1, 1, 1),
        sr_ratios: Sequence[int] = (8, 4, 2, 1),
        conv_kernel_sizes: Sequence[int] = (7, 3, 3, 3),
        head_dim: int = 32,
        mix_block_ratio: float = 0.75,
        token_order: str = "memory",
        drop_path_rate: float = 0.1,
        drop_rate: float = 0.0,
        attn_drop: float = 0.0,
        kan_base_branch: bool = False,
        attn_backend: str = "auto",
        kan_backend: str = "auto",
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        per_stage = {
            "dims": dims,
            "depths": depths,
            "stem_strides": stem_strides,
            "kernel_sizes": kernel_sizes,
            "dilations": dilations,
            "sr_ratios": sr_ratios,
            "conv_kernel_sizes": conv_kernel_sizes,
        }
        check_options(per_stage, stem_chs, in_chans)
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.num_features = self.head_hidden_size = dims[-1]
        self.grad_checkpointing = False
        dd: dict[str, Any] = {"device": device, "dtype": dtype}

        widths = [in_chans, *stem_chs, stem_chs[-1]]
        self.stem = nn.Sequential(*(ConvNormAct(widths[i], widths[i + 1], stem_strides[i], **dd) for i in range(4)))
        blocks: list[nn.Module] = []
        stage_ends: list[int] = []
        info: list[dict[str, Any]] = []
        rates = [drop_path_rate * i / max(sum(depths) - 1, 1) for i in range(sum(depths))]
        width, reduction = widths[-1], math.prod(stem_strides)
        for stage in range(4):
            for i, kind in enumerate(_plan(stage, depths[stage])):
                stride = 2 if stage > 0 and i == 0 else 1
                common: dict[str, Any] = {
                    "stride": stride,
                    "head_dim": head_dim,
                    "drop_path": rates[len(blocks)],
                    "token_order": token_order,
                    **dd,
                }
                if kind == "local":
                    block: nn.Module = LFPBlock(
                        width,
                        dims[stage],
                        kernel_size=kernel_sizes[stage],
                        dilation=dilations[stage],
                        conv_kernel_size=conv_kernel_sizes[stage],
                        attn_drop=drop_rate,
                        attn_backend=attn_backend,
                        **common,
                    )
                else:
                    block = GFPBlock(
                        width,
                        dims[stage],
                        sr_ratio=sr_ratios[stage],
                        mix_block_ratio=mix_block_ratio,
                        attn_drop=attn_drop,
                        proj_drop=drop_rate,
                        base_branch=kan_base_branch,
                        kan_backend=kan_backend,
                        **common,
                    )
                width, reduction = dims[stage], reduction * stride
                blocks.append(block)
            stage_ends.append(len(blocks) - 1)
            info.append({"num_chs": width, "reduction": reduction, "module": f"features.{len(blocks) - 1}"})
        self.features = nn.Sequential(*blocks)
        self.feature_info = info
        self._stage_ends = stage_ends
        self.norm = nn.BatchNorm2d(width, **dd)
        self.global_pool: nn.Module = nn.Identity()
        self.proj_head = nn.Sequential(nn.Identity())
        self._make_head(num_classes, global_pool, dd)
        self.init_weights()
        if img_size is not None:
            self.set_input_size(img_size)

    def set_input_size(self, img_size: int | Sequence[int] | None = None) -> None:
        """Record another image size for `zoo.data_config`; nothing in the model depends on it.

        Raises:
            ValueError: images of that size are too small for the model.
        """
        if img_size is not None:
            height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
            check_size(self, height, width)
            update_model_input_size(self, (height, width))

    @torch.no_grad()
    def init_weights(self) -> None:
        """Convolutions, linear maps and position biases truncated normal with std 0.02, other biases 0, norms (1, 0).

        Also remakes buffers, so it completes a model that was moved off the meta device by `to_empty`.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, (*_NORMS, SwitchGrid)):
                module.reset_parameters()
            elif isinstance(module, NeighborhoodAttention2d) and module.rpb is not None:
                nn.init.trunc_normal_(module.rpb, std=0.02)

    def no_weight_decay(self) -> set[str]:
        """Names of position biases and of norm scales and shifts."""
        names = {n for n, _ in self.named_parameters() if n.endswith(".rpb")}
        for prefix, module in self.named_modules():
            if isinstance(module, _NORMS):
                names |= {f"{prefix}.{n}" for n, _ in module.named_parameters(recurse=False)}
        return names

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns that sort parameters into layers: the stem, then each block (or all of them if `coarse`)."""
        blocks = r"^features" if coarse else [(r"^features\.(\d+)", None), (r"^norm", (99999,))]
        return {"stem": r"^stem", "blocks": blocks}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping its activations."""
        self.grad_checkpointing = enable

    def get_classifier(self) -> nn.Module:
        return self.proj_head[0]

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new classifier (std 0.02, bias 0) on the model's device, in its dtype and mode.

        Args:
            num_classes: 0 removes it.
            global_pool: None keeps the pooling.
        """
        like = next(self.parameters())
        pool = getattr(self.global_pool, "pool_type", "") if global_pool is None else global_pool
        self._make_head(num_classes, pool, {"device": like.device, "dtype": like.dtype})
        self.global_pool.train(self.training)
        self.proj_head.train(self.training)

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
        head: nn.Module = nn.Linear(self.head_hidden_size, num_classes, **dd) if num_classes else nn.Identity()
        if isinstance(head, nn.Linear):
            nn.init.trunc_normal_(head.weight, std=0.02)
            nn.init.zeros_(head.bias)
        self.proj_head = nn.Sequential(head)

    def forward_features(self, x: Float[Tensor, "batch chans height width"]) -> Float[Tensor, "batch dim h w"]:
        """The normalised map of the last stage, (B, num_features, H / 32, W / 32)."""
        # type: (Tensor) -> Tensor
        if not torch.jit.is_scripting():
            self._check_image(x)
        x = self.stem(fastest_format(x))
        if self.grad_checkpointing and not torch.jit.is_scripting():
            for block in self.features:
                x = checkpoint_block(block, x)
        else:
            x = self.features(x)
        return self.norm(x)

    def forward_head(self, x: Float[Tensor, "batch dim h w"], pre_logits: bool = False) -> Float[Tensor, "batch *out"]:
        """Pool and classify a map of `forward_features`; with `pre_logits` only pool."""
        # type: (Tensor, bool) -> Tensor
        x = self.global_pool(x)
        if self.num_classes > 0 and not pre_logits and not self._pools:
            raise ValueError(
                "global_pool='' keeps the map, which a classifier cannot read: reset_classifier with a pooling"
            )
        return x if pre_logits else self.proj_head(x)

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
        """Maps of chosen stages, and the result of `forward_features`.

        Args:
            x: images.
            indices: the last n stages (int), these stages (list, negative from the end), or all (None).
            norm: apply the final norm to the last stage's map.
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
        take, last = taken_stages(indices, len(self._stage_ends))
        self._check_image(x)
        x = self.stem(fastest_format(x))
        maps = []
        end = self._stage_ends[last] if stop_early else len(self.features) - 1
        normed = x
        for i, block in enumerate(self.features):
            if i > end:
                break
            x = checkpoint_block(block, x) if self.grad_checkpointing else block(x)
            if i == len(self.features) - 1:
                normed = self.norm(x)
            if i in self._stage_ends and self._stage_ends.index(i) in take:
                maps.append(normed if norm and i == len(self.features) - 1 else x)
        if intermediates_only:
            return maps
        return (normed if end == len(self.features) - 1 else x), maps

    def prune_intermediate_layers(
        self, indices: int | list[int] | tuple[int, ...] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the stages behind the last one in `indices`, in place; returns the indices, non-negative.

        The final norm and the classifier fit the last stage alone and go with it.
        """
        take, last = taken_stages(indices, len(self._stage_ends))
        shortened = last < len(self._stage_ends) - 1
        self.features = self.features[: self._stage_ends[last] + 1]
        self._stage_ends = self._stage_ends[: last + 1]
        if shortened or prune_norm:
            self.norm = nn.Identity()
        if shortened or prune_head:
            self.num_features = self.feature_info[last]["num_chs"]
            self.reset_classifier(0, "" if prune_head else None)
        return take

    def _check_image(self, x: Tensor) -> None:
        if not is_traced(x):
            check_image(x, self)

    def fuse(self) -> "MedViT2":
        """Fold batch norms into the linear maps beside them, in place, and switch to evaluation.

        Outputs stay the same up to rounding. The fused state dict has other names, and training it makes no sense:
        save the model before.
        """
        self.eval()
        for module in (*self.stem, *self.features):
            module.fuse()  # pyright: ignore[reportCallIssue]
        return self
