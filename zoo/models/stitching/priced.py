"""What the paths of a stitched network cost, and choosing one by it."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, SupportsFloat, TypeVar

from torch import nn

from zoo.layers.stitch import StitchLayer
from zoo.models.stitching import budget
from zoo.models.stitching import costs as counting
from zoo.models.stitching import path as paths
from zoo.models.stitching.anchors import Anchor
from zoo.models.stitching.costs import Cost
from zoo.models.stitching.path import Join
from zoo.models.stitching.published import published_top1
from zoo.models.stitching.stitches import StitchConfig

T = TypeVar("T")


def told(get: Callable[[Any], T]) -> Callable[[Any], T]:
    """What a property of a module computes, with its errors: of an AttributeError torch would make "no attribute"."""

    @functools.wraps(get)
    def call(module: Any) -> T:
        try:
            return get(module)
        except AttributeError as error:
            raise RuntimeError(f"{get.__name__} of a {type(module).__name__}: {error}") from error

    return call


class Priced(nn.Module):
    """The part of a stitched network that counts and compares its paths.

    Attributes:
        latency: milliseconds of a forward pass, by number of path, as the last profile has them.
        strict: whether anchors that do not go from small to large are an error.
    """

    anchor_labels: tuple[str, ...]
    in_chans: int
    stitch_norm: bool
    allow_empty_end: bool
    stitch_layer: Callable[[Join], StitchLayer]
    _choose: Callable[[StitchConfig], StitchConfig]
    _anchors: list[Anchor]
    _configs: tuple[StitchConfig, ...]
    _left: Any = None

    def _start_prices(
        self, top1: Mapping[str, int | float] | Mapping[int, int | float] | str | None, strict: bool
    ) -> None:
        """Nothing is counted yet, unless the order of the anchors is in question."""
        if isinstance(top1, str) and top1 != "published":
            raise ValueError(f"top1 is a mapping of accuracies, or 'published', got {top1!r}")
        #: Accuracies of the weights that are loaded first.
        self._awaited: dict[int, float]
        if isinstance(top1, str):
            self._awaited, self.top1 = published_top1(self), {}
        else:
            self.top1 = top1 or {}
            self._awaited = dict(self.top1)
        self.latency: dict[int, float] = {}
        self.strict = strict
        self._costs: tuple[Any, tuple[Cost, ...]] | None = None
        #: All paths as they were told last, until a piece is replaced: to choose one looks at no shape.
        self._lately: tuple[StitchConfig, ...] | None = None
        sizes = [sum(p.numel() for p in anchor.model.parameters()) for anchor in self._anchors]
        if (strict or sizes != sorted(sizes)) and self.img_size:
            self.costs()

    def _forget_accuracies(self, *, stitched: bool = False) -> None:
        """The weights are others now, or those of the stitching layers alone."""
        if stitched:
            self.top1 = {number: value for number, value in self.top1.items() if number < len(self._anchors)}
        else:
            self.top1, self._awaited = {}, {}

    def _accuracies_loaded(self, whole: bool) -> None:
        """Weights were loaded, all of them or some."""
        self.top1, self._awaited = self._awaited if whole else {}, {}

    @property
    def top1(self) -> dict[int, float]:
        """Accuracies of the weights that are there, in percent, by number of path, where they are known.

        To be set: a mapping, also with the keys that JSON makes of numbers. Other weights, new classifiers and another
        size of images leave nothing known; so does `zoo.finetune`.

        Raises:
            TypeError: no mapping.
            UnknownStitchError: a number that no path has.
            ValueError: an accuracy that is no percentage.
        """
        return self._top1

    @top1.setter
    def top1(self, known: Any) -> None:
        self._top1 = budget.accuracies(known, len(self._configs))

    @property
    @told
    def img_size(self) -> tuple[int, int] | None:
        """Height and width of the images that costs are of; None where neither anchors nor options say."""
        return counting.size_of_images(self._anchors, (getattr(self, "_traits", None) or {}).get("img_size"))

    def costs(self, img_size: Any = None) -> tuple[Cost, ...]:
        """What every path costs, in order; counted once, and again when the network has changed its shape.

        Args:
            img_size: of the images, one number or (height, width); that of the network by default.

        Raises:
            ValueError: no size of images is known, or the network takes others; it was cut to the features of one
                path; with `strict`, anchors that do not go from small to large.
        """
        if self._left is not None:
            raise ValueError("this network was cut to the features of one path; count before it is cut")
        size = self.img_size if img_size is None else counting.asked_size(self._anchors, img_size)
        if size is None:
            raise ValueError("the anchors say no size of images to count for: give img_size=(height, width)")
        key = (size, counting.shapes_of(self))
        if self._costs is None or self._costs[0] != key:
            plans = [tuple(paths.plan(config, self._anchors, self.stitch_norm)) for config in self._configs]
            found = counting.path_costs(plans, self._anchors, self.stitch_layer, (self.in_chans, *size))
            alone = [cost.flops for cost in found[: len(self._anchors)]]
            counting.check_order(self.anchor_labels, alone, strict=self.strict)
            self._costs = (key, found)
        return self._costs[1]

    @property
    @told
    def stitches(self) -> tuple[StitchConfig, ...]:
        """All paths in order, with what they cost and what is known of their accuracy and time."""
        costs = self.costs() if self.img_size and self._left is None else None
        self._lately = tuple(
            replace(
                config,
                **({} if costs is None else costs[config.id]._asdict()),
                top1=self.top1.get(config.id),
                latency=self.latency.get(config.id),
            )
            for config in self._configs
        )
        return self._lately

    def priced(self, config: StitchConfig) -> StitchConfig:
        """A path with what it costs, as it was counted last, and what is known of it."""
        row = (self.stitches if self._lately is None else self._lately)[config.id]
        top1, latency = self.top1.get(config.id), self.latency.get(config.id)
        return row if (row.top1, row.latency) == (top1, latency) else replace(row, top1=top1, latency=latency)

    def set_budget(
        self,
        *,
        flops: SupportsFloat | None = None,
        macs: SupportsFloat | None = None,
        params: SupportsFloat | None = None,
        latency_ms: SupportsFloat | None = None,
        prefer: str = "top1",
    ) -> StitchConfig:
        """Choose the best path within one limit or several.

        Args:
            flops, macs, params: upper bounds, of one image.
            latency_ms: likewise, of a forward pass as it was profiled.
            prefer: "top1" for the highest accuracy that is known, "flops" for the largest network; of equals the
                cheaper one.

        Returns:
            the path that runs from now on.

        Raises:
            BudgetError: no path keeps to the limits; it names the cheapest.
            ValueError: no limit, or one on what is not known, such as latencies before `profile_stitches`.
        """
        limits = {"flops": flops, "macs": macs, "params": params, "latency_ms": latency_ms}
        choice = [s for s in self.stitches if s.usable or self.allow_empty_end]
        chosen = budget.best_stitch(choice, limits, prefer)
        self._choose(chosen)
        return chosen
