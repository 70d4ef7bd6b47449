"""timm's contract for a stitched network: classifiers, groups of parameters, image size, what rebuilds it."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from timm.models._input import update_model_input_size
from torch import nn

from zoo.layers.stitch import StitchLayer
from zoo.models.stitching.anchors import Anchor
from zoo.models.stitching.path import Join, Path
from zoo.models.stitching.stitches import StitchConfig

#: timm's words for the layouts of features.
_FORMATS = {"tokens": "NLC", "nhwc": "NHWC", "nchw": "NCHW"}


class TimmContract(nn.Module):
    """What timm asks of every model beside its forward pass, answered by asking the anchors."""

    anchors: nn.ModuleList
    stitch_layers: nn.ModuleList
    num_classes: int
    _choose: Callable[..., Any]
    stitch_layer: Callable[[Join], StitchLayer]
    _note_drawn: Callable[[], None]
    _configs: tuple[StitchConfig, ...]
    _anchors: list[Anchor]
    _path: Path
    _ready: dict[int, Path]
    _stitch: int
    #: What is left of a network that was cut to its features; None for a whole one.
    _left: "Remains | None"
    #: The paths and what they cost, while it holds.
    _lately: Any

    @property
    def num_features(self) -> int:
        """Channels of what the head of the current path takes."""
        return self._anchors[self._path.end].stages[-1].width if self._left is None else self._left.width

    @property
    def head_hidden_size(self) -> int:
        """Channels of what the classifier of the current path takes."""
        if self._left is not None and not self._left.head:
            return self._left.width
        return int(getattr(self.anchors[self._path.end], "head_hidden_size", self.num_features))

    @property
    def output_fmt(self) -> str:
        """timm's word for the layout of `forward_features` on the current path."""
        return _FORMATS[self._anchors[self._path.end].layout]

    @property
    def feature_dim(self) -> int:
        """The axis of the channels in `forward_features`."""
        return 1 if self.output_fmt == "NCHW" else -1

    def get_classifier(self) -> tuple[nn.Module, ...]:
        """The classifiers of all anchors, in order; a distilled one has two."""
        found: list[nn.Module] = []
        for model in self._with_heads():
            own = model.get_classifier() if hasattr(model, "get_classifier") else model.head  # pyright: ignore
            found += own if isinstance(own, tuple | list) else [own]  # pyright: ignore
        return tuple(found)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """New classifiers for all anchors, each made as its own method makes it.

        Args:
            num_classes: 0 removes them.
            global_pool: of all anchors; None keeps theirs.

        Raises:
            ValueError: a negative number, a pooling that an anchor does not have, an anchor of your own without this
                method, or a network whose heads were cut off.
        """
        if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 0:
            raise ValueError(f"num_classes must be an int ≥ 0, got {num_classes!r}")
        models = self._with_heads()
        if not models and num_classes:
            raise ValueError("the heads of this network were cut off; build it anew for other classes")
        for model in models:
            if not hasattr(model, "reset_classifier"):
                raise ValueError(
                    f"a {type(model).__name__} among the anchors has no reset_classifier: give it its head before it "
                    "is stitched"
                )
        for model in models:
            try:
                model.reset_classifier(num_classes, global_pool)  # pyright: ignore[reportCallIssue]
            except AssertionError as error:
                raise ValueError(f"global_pool={global_pool!r} is none of a {type(model).__name__}: {error}") from error
        self.num_classes = num_classes
        self._refresh()
        self._forget_accuracies()

    def no_weight_decay(self) -> set[str]:
        """What the anchors name, under their names here."""
        own: list[Callable[[], Any]] = [getattr(model, "no_weight_decay", set) for model in self.anchors]
        return {f"anchors.{a}.{name}" for a, names in enumerate(own) for name in names()}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """The groups of the anchors: what they call by the same name and number is one group.

        Heads and stitching layers come last, where a decay of learning rates by layer leaves the full rate.
        """
        groups: dict[str, list[tuple[str, Any]]] = {}
        for a, model in enumerate(self.anchors):
            matcher: Any = getattr(model, "group_matcher", None)
            own = {"stem": r"^stem", "blocks": r"^stages\.(\d+)"} if matcher is None else matcher(coarse=coarse)
            for name, given in own.items():
                for pattern, suffix in [(given, None)] if isinstance(given, str) else given or []:
                    groups.setdefault(name, []).append((_under(f"anchors.{a}.", pattern), suffix))
        return groups

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping its activations."""
        self.grad_checkpointing = enable

    def init_weights(self) -> None:
        """Draw all weights anew, as the anchors do it; stitching layers as torch draws linear ones."""
        for module in self.modules():
            if isinstance(getattr(module, "init_non_persistent_buffers", None), Callable):
                module.init_non_persistent_buffers()  # pyright: ignore[reportCallIssue]
        for model in self.anchors:
            own: Any = getattr(model, "init_weights", None)
            for module in model.modules() if own is None else ():
                if isinstance(getattr(module, "reset_parameters", None), Callable):
                    module.reset_parameters()  # pyright: ignore[reportCallIssue]
            if own is not None:
                own()
        for layer in self._layers():
            layer.reset_parameters()
        self._note_drawn()
        self._forget_accuracies()

    @property
    def set_input_size(self) -> Callable[..., None]:
        """Take images of another size: `set_input_size(img_size)`, as the anchors' own method does it.

        Networks with an anchor that is made for one size alone do not have it.
        """
        for anchor, model in zip(self._anchors, self.anchors, strict=True):
            if anchor.img_size is not None and not hasattr(model, "set_input_size"):
                raise AttributeError(f"a {type(model).__name__} takes images of {anchor.img_size} alone")
        return self._set_input_size

    def _set_input_size(self, img_size: int | Sequence[int] | None = None) -> None:
        if img_size is None:
            return
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        for model in self._resized():
            change: Any = getattr(model, "set_input_size", None)
            if change is None:
                continue
            try:
                change(img_size=(height, width))
            except AssertionError as error:
                raise ValueError(f"a {type(model).__name__} cannot take images of {height}x{width}: {error}") from error
        for join in {join for config in self._configs for join in config.joins}:
            self.stitch_layer(join).grid = grid_of(self._anchors[join[1]], self._anchors[join[2]], join[0] or 0)
        update_model_input_size(self, (height, width))
        self._refresh()
        self._forget_accuracies()

    def _forget_accuracies(self, *, stitched: bool = False) -> None:
        """The weights are others now: of a network that knows how good it was."""

    def _resized(self) -> list[nn.Module]:
        """What has to know the size of the images."""
        return list(self.anchors)

    def _with_heads(self) -> list[nn.Module]:
        """Anchors whose heads are there."""
        if self._left is None:
            return list(self.anchors)
        return [self.anchors[self._path.end]] if self._left.head else []

    def _layers(self) -> Iterator[StitchLayer]:
        """All stitching layers."""
        return (module for module in self.stitch_layers.modules() if isinstance(module, StitchLayer))

    def _refresh(self) -> None:
        """Find the current path anew: pieces of it were replaced."""
        if self._left is None:
            self._ready.clear()
            self._lately = None
            self._choose(self._stitch)


class Remains(NamedTuple):
    """What is left of a network that was cut to its features.

    Attributes:
        width: channels of the last of them.
        head: whether the head behind them is still there.
    """

    width: int
    head: bool


def grid_of(front: Anchor, end: Anchor, stage: int) -> tuple[int, int] | None:
    """Height and width of the map that tokens of `front` become in `end`; None where a layer makes none, or any."""
    reduction = end.stages[stage].reduction
    size = end.img_size or front.img_size
    if not front.layout == "tokens" != end.layout or size is None or not reduction:
        return None
    height, width = (side // reduction for side in size)
    return (height, width)


def _under(prefix: str, pattern: str) -> str:
    """A pattern for names that begin with `prefix`."""
    free = re.sub(r"(^|[|(])\^", r"\1", pattern)
    return rf"^{re.escape(prefix)}(?:{free})"
