"""A network cut into what stitching needs: a stem, stages of blocks, a norm and a head."""

import copy
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

#: Of what runs between two blocks: tokens (B, N, C), maps (B, H, W, C), maps (B, C, H, W).
LAYOUTS = ("tokens", "nhwc", "nchw")


class Piece(NamedTuple):
    """A part of an anchor that a path runs or leaves out.

    Attributes:
        kind: "stem", "enter" (what leads from the stage before into `stage`), "block", "norm" or "head".
        stage, index: of an "enter" and of a "block".
    """

    kind: str
    stage: int = 0
    index: int = 0


@dataclass(frozen=True)
class Stage:
    """Blocks of one width.

    Attributes:
        blocks: dotted names of the blocks.
        width: channels of what they take and give.
        reduction: pixels of the image along a side of one of theirs.
        enter: dotted name of what leads into it, such as a patch merging; "" for nothing.
    """

    blocks: tuple[str, ...]
    width: int
    reduction: int
    enter: str = ""


class Anchor:
    """A model, the names of its pieces, and how the pieces are called.

    It owns no weights: pieces are looked up in `model` when they are asked for.

    Attributes:
        model: the network.
        stages: its stages.
        stem_names, norm_names, head_names: dotted names of the modules, parameters and buffers of these pieces.
        layout: of what runs between its blocks, one of `LAYOUTS`.
        first_stitched: the first of the stages that are stitched by default; the last never is.
        num_prefix_tokens: tokens before those of the image.
    """

    layout: ClassVar[str] = "nchw"
    #: Stages before it keep to themselves, unless asked.
    first_stitched: ClassVar[int] = 0
    #: Whether its blocks take images of any size, and the stem alone is of one.
    sized_by_stem: ClassVar[bool] = False

    def __init__(
        self,
        model: nn.Module,
        stages: tuple[Stage, ...],
        *,
        stem_names: tuple[str, ...],
        norm_names: tuple[str, ...] = (),
        head_names: tuple[str, ...],
        num_prefix_tokens: int = 0,
    ) -> None:
        self.model = model
        self.stages = stages
        self.stem_names, self.norm_names, self.head_names = stem_names, norm_names, head_names
        self.num_prefix_tokens = num_prefix_tokens

    @property
    def depths(self) -> tuple[int, ...]:
        """Blocks of each stage."""
        return tuple(len(stage.blocks) for stage in self.stages)

    @property
    def num_classes(self) -> int:
        """Classes of its head; 0 for none."""
        return int(self.model.num_classes)  # pyright: ignore[reportArgumentType]

    @property
    def img_size(self) -> tuple[int, int] | None:
        """The one size of images that it takes; None for any."""
        return embedded_size(self.model)

    def stem(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to what the first stage begins with."""
        return self.run_stem(self.model, x)

    def norm(self, x: Tensor) -> Tensor:
        """The norm behind the last block, if there is one."""
        for name in self.norm_names:
            x = self.model.get_submodule(name)(x)
        return x

    def head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pooling and classifier; without the classifier if `pre_logits`."""
        return self.run_head(self.model, x, pre_logits)

    def piece(self, piece: Piece) -> Any:
        """What runs a piece: a module for those within the stages, else a method of this anchor."""
        if piece.kind in ("enter", "block"):
            return self.model.get_submodule(self.names(piece)[0])
        return getattr(self, piece.kind)

    def names(self, piece: Piece) -> tuple[str, ...]:
        """Dotted names of the modules, parameters and buffers of a piece."""
        if piece.kind == "block":
            return (self.stages[piece.stage].blocks[piece.index],)
        if piece.kind == "enter":
            return (self.stages[piece.stage].enter,)
        return {"stem": self.stem_names, "norm": self.norm_names, "head": self.head_names}[piece.kind]

    def walk(self, first: tuple[int, int] | None = None, last: tuple[int, int] | None = None) -> Iterator[Piece]:
        """Pieces between two blocks, both included.

        Args:
            first: (stage, index) of the block to begin with; None for the stem.
            last: (stage, index) of the block to end with; None for the head.
        """
        begin, end = first or (0, 0), last or (len(self.stages) - 1, self.depths[-1] - 1)
        if first is None:
            yield Piece("stem")
        for s in range(begin[0], end[0] + 1):
            if self.stages[s].enter and (first is None or s > begin[0]):
                yield Piece("enter", s)
            start = begin[1] if s == begin[0] else 0
            stop = end[1] if s == end[0] else self.depths[s] - 1
            yield from (Piece("block", s, i) for i in range(start, stop + 1))
        if last is None:
            yield from (Piece("norm"), Piece("head"))

    def copy_of(self, kinds: Collection[str]) -> nn.Module:
        """A copy of the model that has kept these of "stem", "norm" and "head" alone; other modules are `Identity`."""
        kept = [name for kind in kinds for name in self.names(Piece(kind))]
        memo: dict[int, Any] = {}
        for name, module in self.model.named_modules():
            if name and not any(_within(name, k) or _within(k, name) for k in kept):
                memo[id(module)] = nn.Identity()
        for name, tensor in (*self.model.named_parameters(), *self.model.named_buffers()):
            if not any(_within(name, k) for k in kept):
                memo[id(tensor)] = None
        return copy.deepcopy(self.model, memo)

    @staticmethod
    def run_stem(model: nn.Module, x: Tensor) -> Tensor:
        """The stem of a model of this family."""
        return model.stem(x)  # pyright: ignore[reportCallIssue]

    @staticmethod
    def run_head(model: nn.Module, x: Tensor, pre_logits: bool = False) -> Tensor:
        """The head of a model of this family."""
        return model.forward_head(x, pre_logits=pre_logits)  # pyright: ignore[reportCallIssue]


def embedded_size(model: nn.Module) -> tuple[int, int] | None:
    """The one size of images that a model's patch embedding takes; None for any."""
    embed = getattr(model, "patch_embed", None)
    size = getattr(embed, "img_size", None)
    if size is None or not getattr(embed, "strict_img_size", True):
        return None
    return (int(size[0]), int(size[1]))


def _within(name: str, part: str) -> bool:
    """Whether a dotted name is a part, or inside it."""
    return name == part or name.startswith(f"{part}.")
