"""Features of the current path of a stitched network: what its blocks or stages give, as maps."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from zoo.models.checkpointing import checkpoint_block
from zoo.models.image_contract import taken_stages
from zoo.models.stitching.anchors import Anchor
from zoo.models.stitching.anchors.anchor import Stage
from zoo.models.stitching.contract import Remains, TimmContract
from zoo.models.stitching.path import Path, PathStep
from zoo.models.stitching.prune import keep_only

#: Blocks of plain networks that are given unless others are asked for.
_BLOCKS = 3


class Tap(NamedTuple):
    """A place on a path whose features can be had.

    Attributes:
        step: number of the step that gives them.
        anchor, stage: whose block that is.
        module: its dotted name.
    """

    step: int
    anchor: Anchor
    stage: Stage
    module: str


def taps(plan: Sequence[PathStep], anchors: Sequence[Anchor], prefix: str = "anchors.{}.") -> list[Tap]:
    """Of networks of several stages the last block of each; of plain ones every block.

    Args:
        plan: what runs.
        anchors: of the network.
        prefix: where in the network an anchor is, with a place for its number.
    """
    found: list[Tap] = []
    last = None
    for number, step in enumerate(plan):
        if step.piece is None or step.piece.kind != "block":
            continue
        anchor, at = anchors[step.anchor], step.piece.stage
        name = prefix.format(step.anchor) + anchor.names(step.piece)[0]
        if len(anchor.stages) > 1 and last == at:
            found.pop()
        found.append(Tap(number, anchor, anchor.stages[at], name))
        last = at
    return found


def as_map(
    x: Tensor, anchor: Anchor, stage: Stage, size: tuple[int, int]
) -> tuple[Float[Tensor, "batch chans height width"], Tensor]:
    """Features (B, C, H, W), and the prefix tokens (B, P, C) that were before them.

    Args:
        x: in the layout of the anchor.
        anchor, stage: what gave them.
        size: of the images, (height, width).

    Raises:
        ValueError: tokens that are no map of such images.
    """
    prefix = x[:, :0]
    if anchor.layout == "nhwc":
        x = x.permute(0, 3, 1, 2)
    elif anchor.layout == "tokens":
        prefix, x = x[:, : anchor.num_prefix_tokens], x[:, anchor.num_prefix_tokens :]
        side = math.isqrt(x.shape[1])
        grid = (math.ceil(size[0] / stage.reduction), math.ceil(size[1] / stage.reduction)) if stage.reduction else ()
        if math.prod(grid) != x.shape[1] or not grid:
            grid = (side, side)
        if math.prod(grid) != x.shape[1]:
            raise ValueError(f"{x.shape[1]} tokens are no map of images of {size[0]}x{size[1]}")
        x = x.unflatten(1, grid).permute(0, 3, 1, 2)
    return x.contiguous(), prefix


class PathFeatures(TimmContract):
    """timm's interface of features, for the current path."""

    grad_checkpointing: bool

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """Channels, reduction and module of the current path's features: one row a stage, of plain networks a block."""
        return [
            {"num_chs": tap.stage.width, "reduction": tap.stage.reduction, "module": tap.module} for tap in self._taps()
        ]

    def _taps(self) -> list[Tap]:
        return taps(self._path.plan, self._anchors)

    def _run(self, x: Tensor, path: Path, number: int) -> Tensor:
        """One step of a path."""
        step, piece = path.steps[number], path.plan[number].piece
        if self.grad_checkpointing and piece is not None and piece.kind == "block":
            assert isinstance(step, nn.Module)
            return checkpoint_block(step, x)
        return step(x)

    def _checkpointed(self, x: Tensor, path: Path) -> Tensor:
        """All steps of a path."""
        for number in range(len(path.steps)):
            x = self._run(x, path, number)
        return x

    def forward_intermediates(
        self,
        x: Float[Tensor, "batch chans height width"],
        indices: int | Sequence[int] | None = None,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
        output_dict: bool = False,
    ) -> Any:
        """Features of chosen stages of the current path, of plain networks of chosen blocks, and what its head takes.

        Widths change where the path goes from one anchor into the next; `feature_info` lists them.

        Args:
            x: images.
            indices: the last n (int), these (list, negative from the end), or all (None).
            return_prefix_tokens: give (features, prefix tokens) for each, of networks that have such tokens.
            norm: apply the last anchor's final norm to what its blocks give, of networks of several stages its last
                stage; a path without that norm has none.
            stop_early: run nothing behind the last of those that were asked for.
            output_fmt: "NCHW", or "NLC" for tokens.
            intermediates_only: leave out what the head takes.
            output_dict: give a dictionary, with timm's names.

        Returns:
            A list of features, (what the head takes, list), or a dictionary.

        Raises:
            ValueError: another output format, or an index out of range.
        """
        if output_fmt not in ("NCHW", "NLC"):
            raise ValueError(f"output_fmt must be 'NCHW' or 'NLC', got {output_fmt!r}")
        found = self._taps()
        asked = indices if indices is None or isinstance(indices, int) else list(indices)
        what = "stages" if len(self._anchors[0].stages) > 1 else "blocks"
        take, last = taken_stages(asked, len(found), what)
        wanted = {found[i].step: found[i] for i in take}
        size = (x.shape[-2], x.shape[-1])
        given: dict[int, Any] = {}
        count = len(self._path.steps)
        for number in range(found[last].step + 1 if stop_early else count):
            x = self._run(x, self._path, number)
            if (tap := wanted.get(number)) is not None:
                normed = self._anchors[self._path.end].norm(x) if norm and self._has_norm(tap) else x
                features, prefix = as_map(normed, tap.anchor, tap.stage, size)
                features = features if output_fmt == "NCHW" else features.flatten(2).transpose(1, 2)
                given[number] = (features, prefix)
        rows = [given[found[i].step] for i in take]
        maps, prefixes = [row[0] for row in rows], [row[1] for row in rows]
        has_prefix = return_prefix_tokens and self._anchors[0].num_prefix_tokens > 0
        if output_dict:
            named: dict[str, Any] = {"image_intermediates": maps}
            named |= {"image_intermediates_prefix": prefixes} if has_prefix else {}
            return named if intermediates_only else {**named, "image_features": x}
        result = rows if has_prefix else maps
        return result if intermediates_only else (x, result)

    def _has_norm(self, tap: Tap) -> bool:
        """Whether the path has a final norm, and these features are such as it takes."""
        end = self._anchors[self._path.end]
        ends = any(step.piece is not None and step.piece.kind == "norm" for step in self._path.plan)
        return ends and tap.anchor is end and tap.stage is end.stages[-1]

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] | None = None, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Keep of the whole network only what the current path needs for these features, in place.

        Afterwards it is a network of one path: the other stitches are gone.

        Args:
            indices: as in `forward_intermediates`; None for all stages, of plain networks the last 3 blocks.
            prune_norm: drop the final norm.
            prune_head: drop the head. It goes in any case with the blocks behind the last feature.

        Returns:
            The indices, none negative.

        Raises:
            ValueError: an index out of range.
        """
        found = self._taps()
        staged = len(self._anchors[0].stages) > 1
        asked = indices if indices is None or isinstance(indices, int) else list(indices)
        asked = min(_BLOCKS, len(found)) if asked is None and not staged else asked
        take, last = taken_stages(asked, len(found), "stages" if staged else "blocks")
        tap, whole = found[last], last == len(found) - 1
        keeps_norm = not prune_norm and self._has_norm(tap)
        keeps_head = whole and not prune_head
        plan = [
            step
            for number, step in enumerate(self._path.plan)
            if number <= tap.step or (step.piece is not None and step.piece.kind == "norm" and keeps_norm)
        ]
        steps = [call for call, step in zip(self._path.steps, self._path.plan, strict=False) if step in plan]
        head = self._path.head if keeps_head else _no_head
        end = next(a for a, anchor in enumerate(self._anchors) if anchor is tap.anchor)
        plan += [self._path.plan[-1]] if keeps_head else []
        self._path = Path(tuple(steps), head, tuple(plan), end)
        self._left = Remains(tap.stage.width, keeps_head)
        if not keeps_head:
            self.num_classes = 0
        self._ready = {self._stitch: self._path}
        keep_only(self, plan)
        return take


def _no_head(x: Tensor, pre_logits: bool = False) -> Tensor:
    """In the place of a head that was cut off."""
    return x
