"""A network of one's own as an anchor."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from zoo.models.stitching.anchors.anchor import LAYOUTS, Anchor, Stage


class AnchorSpec(nn.Module):
    """The pieces of a network, in the order in which they run: a model, and what `zoo.stitch` takes for an anchor.

        zoo.stitch([AnchorSpec(stem, [[block, block], [block]], head, widths=(32, 64), layout="nchw"), ...])

    Args:
        stem: images to what the first block takes.
        stages: blocks of each stage.
        head: what the last block gives (after `norm`) to scores of classes (B, num_classes).
        widths: channels of each stage.
        layout: of what runs between blocks: "tokens" (B, N, C), "nhwc" or "nchw".
        reductions: pixels of the image along a side of one of a stage's; nets whose reductions are known to differ
            are not stitched. None for unknown.
        enters: what leads into each stage, None for nothing; by default nothing.
        norm: before the head, left out of stitched paths by `stitch_norm=False`.
        num_classes: of the head; by default what its last linear layer has.
        num_prefix_tokens: tokens before those of the image.
        img_size: (height, width), if it takes one size of images alone.

    Raises:
        ValueError: no stages, an empty stage, other numbers of widths, reductions or enters, an unknown layout, a
            head whose number of classes cannot be seen.
    """

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[Sequence[nn.Module]],
        head: nn.Module,
        *,
        widths: Sequence[int],
        layout: str,
        reductions: Sequence[int] | None = None,
        enters: Sequence[nn.Module | None] | None = None,
        norm: nn.Module | None = None,
        num_classes: int | None = None,
        num_prefix_tokens: int = 0,
        img_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        if not stages or not all(len(stage) for stage in stages):
            raise ValueError(f"an anchor has at least one stage, each of at least one block, got {stages!r}")
        if layout not in LAYOUTS:
            raise ValueError(f"layout must be one of {', '.join(map(repr, LAYOUTS))}, got {layout!r}")
        for what, given in (("widths", widths), ("reductions", reductions), ("enters", enters)):
            if given is not None and len(given) != len(stages):
                raise ValueError(f"{what} has {len(given)} entries for {len(stages)} stages")
        self.stem = stem
        self.stages = nn.ModuleList(nn.ModuleList(stage) for stage in stages)
        self.enters = nn.ModuleList(nn.Identity() if e is None else e for e in enters or [None] * len(stages))
        self.norm = nn.Identity() if norm is None else norm
        self.head = head
        self.num_classes = _classes_of(head) if num_classes is None else num_classes
        self.widths, self.layout, self.img_size = tuple(widths), layout, img_size
        self.reductions = (0,) * len(stages) if reductions is None else tuple(reductions)
        self.num_prefix_tokens = num_prefix_tokens
        self.num_features = self.widths[-1]

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for enter, stage in zip(self.enters, self.stages, strict=True):
            x = enter(x)
            for block in stage:  # pyright: ignore[reportGeneralTypeIssues]
                x = block(x)
        return self.forward_head(self.norm(x))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """The head; it is one piece, so there is nothing before its classifier to give."""
        return x if pre_logits else self.head(x)


class SpecAnchor(Anchor):
    """An `AnchorSpec` as an anchor."""

    def __init__(self, model: AnchorSpec) -> None:
        stages = tuple(
            Stage(
                tuple(f"stages.{s}.{i}" for i in range(len(stage))),  # pyright: ignore[reportArgumentType]
                model.widths[s],
                model.reductions[s],
                "" if isinstance(model.enters[s], nn.Identity) else f"enters.{s}",
            )
            for s, stage in enumerate(model.stages)
        )
        super().__init__(
            model,
            stages,
            stem_names=("stem",),
            norm_names=("norm",),
            head_names=("head",),
            num_prefix_tokens=model.num_prefix_tokens,
        )
        self.layout: Any = model.layout

    @property
    def img_size(self) -> tuple[int, int] | None:
        return self.model.img_size  # pyright: ignore[reportReturnType]


def _classes_of(head: nn.Module) -> int:
    linear = [m for m in head.modules() if isinstance(m, nn.Linear)]
    if not linear:
        raise ValueError(f"num_classes cannot be read from a {type(head).__name__} without a linear layer; give it")
    return linear[-1].out_features
