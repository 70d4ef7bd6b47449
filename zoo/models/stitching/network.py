"""Networks of different sizes joined into one, which runs any path from a small one into a larger one.

Source: "Stitchable Neural Networks" (CVPR 2023, arXiv 2302.06586); two ways and low-rank layers: "Stitched ViTs are
Flexible Vision Backbones" (ECCV 2024, arXiv 2307.00154). The anchors are the modules of timm, as they are.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, SupportsIndex

import torch
import torch.fx
from jaxtyping import Float
from timm.models._features_fx import register_notrace_module
from timm.models._input import _get_global_pool
from torch import Tensor, nn

from zoo.errors import UnknownStitchError
from zoo.layers.stitch import StitchLayer
from zoo.models.stitching import budget, initialise
from zoo.models.stitching import path as paths
from zoo.models.stitching.anchors import Anchor, anchor_of
from zoo.models.stitching.checks import check_anchors
from zoo.models.stitching.contract import grid_of
from zoo.models.stitching.costs import size_of_images
from zoo.models.stitching.exporting import Exportable
from zoo.models.stitching.features import PathFeatures
from zoo.models.stitching.images import check_images, image_cfg, traits_of
from zoo.models.stitching.made import AnchorLike, check_count, labels_of, make_anchor, name_of, rates_of
from zoo.models.stitching.path import Join, Path
from zoo.models.stitching.priced import Priced
from zoo.models.stitching.probed import check_pieces
from zoo.models.stitching.rebuilt import Rebuildable
from zoo.models.stitching.stitches import StitchConfig, enumerate_stitches, layer_counts

register_notrace_module(StitchLayer)  # it checks sizes in Python: a leaf for torch.fx


class StitchNet(Priced, PathFeatures, Rebuildable, Exportable):
    """Anchors, stitching layers between them, and the number of the path that runs.

    (B, in_chans, H, W) -> (B, num_classes). Path 0 is the first anchor alone, and so on; then come the stitched ones:
    the first blocks of a front anchor, a linear map into the width of the next, its remaining blocks and its head.
    Every path uses the same weights.

    Args:
        anchors: two or more, from small to large: names of timm or ours, mappings {"name": ..., **options}, or
            models; all with the same classes and images.
        cuts: "forward" (no path longer than its anchors), "paired" (as published) or "two_way" (SN-Netv2: two
            anchors, also from large to small, and back).
        kernel_size, stride: of the window that pairs blocks of stages of equal depth.
        nearest: stitch neighbours in the list alone.
        stages: of anchors with several stages those that are stitched; by default all but the last, and of residual
            networks not the first.
        lora_rank: of the trained part of stitching layers, whose matrix is then frozen; 0 for matrices that are
            trained.
        stitch_norm: whether stitched paths have the norm before the head, as single anchors do. The published
            SN-Net of DeiT was trained without.
        legacy_layer_map: which layer a cut uses between stages of different depths, as published; off, the layer of
            its front block.
        allow_empty_end: also run the paths that leave nothing of their last anchor but its head, which are counted
            among the published ones.
        stitch: number of the path to begin with; the last anchor by default.
        top1: accuracies in percent, by number of path, of the weights that the anchors have, or that are loaded next;
            also with the keys that JSON makes of them. "published" for those of the authors' checkpoint of these
            anchors and rules, which are known as soon as weights are loaded: say so of that checkpoint alone.
        strict: anchors that do not go from small to large, by their FLOPs, are an error rather than a warning.
        num_classes: of all anchors; by default their own.
        in_chans, img_size, global_pool, drop_rate: of all anchors that are given by name.
        drop_path_rate: likewise; or one for each.

    `get_classifier`, `group_matcher`, `forward_intermediates` and what else timm asks of a model speak of all anchors,
    or of the path that runs.

    Raises:
        ValueError: fewer than two anchors; anchors that differ in classes, images, prefix tokens, or in the reduction
            of a stitched stage; options out of range.
        TypeError: an anchor that is not known how to cut.
        UnknownStitchError: `stitch` is no path.
    """

    feature_cfg: ClassVar[dict[str, Any]] = {"out_indices": None, "feature_cls": "getter"}

    def __init__(
        self,
        anchors: Sequence[AnchorLike],
        *,
        cuts: str = "forward",
        kernel_size: int = 2,
        stride: int = 1,
        nearest: bool = True,
        stages: Sequence[int] | None = None,
        lora_rank: int = 0,
        stitch_norm: bool = True,
        legacy_layer_map: bool = False,
        allow_empty_end: bool = False,
        stitch: int | None = None,
        top1: Mapping[str, int | float] | Mapping[int, int | float] | str | None = None,
        strict: bool = False,
        num_classes: int | None = None,
        in_chans: int | None = None,
        img_size: int | Sequence[int] | None = None,
        global_pool: str | None = None,
        drop_rate: float | None = None,
        drop_path_rate: float | Sequence[float] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_count(anchors)
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        shared = {"num_classes": num_classes, "in_chans": in_chans, "img_size": img_size, **dd}
        shared |= {"global_pool": global_pool, "drop_rate": drop_rate}
        rates = rates_of(drop_path_rate, len(anchors))
        self.anchors = nn.ModuleList(
            make_anchor(given, {**shared, "drop_path_rate": rate}) for given, rate in zip(anchors, rates, strict=True)
        )
        self._anchors: list[Anchor] = [anchor_of(model) for model in self.anchors]
        self.anchor_names = tuple(name_of(given, model) for given, model in zip(anchors, self.anchors, strict=True))
        depths = [anchor.depths for anchor in self._anchors]
        if stages is None and len(depths[0]) > 1:
            stages = range(max(anchor.first_stitched for anchor in self._anchors), len(depths[0]) - 1)
        rules: dict[str, Any] = {
            "cuts": cuts,
            "kernel_size": kernel_size,
            "stride": stride,
            "nearest": nearest,
            "stages": None if stages is None else list(stages),
            "legacy_layer_map": legacy_layer_map,
        }
        self._configs = enumerate_stitches(depths, **rules)
        counts = layer_counts(depths, **rules)
        check_anchors(self._anchors, self.anchor_labels, list(counts))
        self.stitch_norm = stitch_norm
        self.lora_rank = lora_rank
        self.allow_empty_end = allow_empty_end
        self._rules = rules
        self._joints = list(counts)
        self.stitch_layers = self._make_layers(counts, dd)
        self.num_classes = self._anchors[0].num_classes
        size = size_of_images(self._anchors, (img_size, img_size) if isinstance(img_size, int) else img_size)
        self.in_chans = check_pieces(self._anchors, self.anchor_labels, in_chans, size)
        self.grad_checkpointing = False
        self._ready: dict[int, Path] = {}
        self._unsure = True
        self._note_drawn()
        self.register_load_state_dict_post_hook(_forget_loaded)
        self._left = None
        self._describe(anchors, img_size)
        self._start_prices(top1, strict)
        self._choose(len(self.anchors) - 1 if stitch is None else stitch)

    def _describe(self, anchors: Sequence[AnchorLike], img_size: int | Sequence[int] | None) -> None:
        """timm's record of how images are prepared, and of what the network is made for."""
        self._pools = tuple(_get_global_pool(model) for model in self.anchors)
        self.pretrained_cfg = self.default_cfg = {**image_cfg(anchors), "architecture": "snnet"}
        self._traits = traits_of([anchor.img_size for anchor in self._anchors], img_size, self.pretrained_cfg)

    @staticmethod
    def describe_parts(options: Mapping[str, Any]) -> dict[str, Any]:
        """Fields of timm's configuration that the constructor's options decide."""
        if "anchors" not in options:
            return {}
        check_images(options["anchors"], options)
        return image_cfg(options["anchors"])

    def _make_layers(self, counts: Mapping[tuple[int | None, int, int], int], dd: dict[str, Any]) -> nn.ModuleList:
        """Stitching layers in the nesting of the published checkpoints: [pair][layer], or [stage][pair][layer]."""
        by_stage: dict[int | None, list[nn.ModuleList]] = {}
        for (stage, a, b), count in counts.items():
            front, end, at = self._anchors[a], self._anchors[b], stage or 0
            by_stage.setdefault(stage, []).append(
                nn.ModuleList(
                    StitchLayer(
                        front.stages[at].width,
                        end.stages[at].width,
                        layout=front.layout,
                        end_layout=end.layout,
                        grid=grid_of(front, end, at),
                        lora_rank=self.lora_rank,
                        **dd,
                    )
                    for _ in range(count)
                )
            )
        nested = [nn.ModuleList(pairs) for pairs in by_stage.values()]
        return nested[0] if None in by_stage else nn.ModuleList(nested)

    def stitch_layer(self, join: Join) -> StitchLayer:
        """The stitching layer at (stage or None, front anchor, end anchor, layer)."""
        stage, front, end, layer = join
        pair = [j for j in self._joints if j[0] == stage].index((stage, front, end))
        layers: Any = self.stitch_layers
        if stage is not None:
            layers = layers[list(dict.fromkeys(j[0] for j in self._joints)).index(stage)]
        return layers[pair][layer]

    @property
    def anchor_labels(self) -> tuple[str, ...]:
        """The names of the anchors, with width or depth where several have the same."""
        return labels_of(self.anchor_names, self._anchors)

    @property
    def stitch(self) -> int:
        """Number of the path that runs."""
        return self._stitch

    def config_of(self, stitch: SupportsIndex | StitchConfig | str) -> StitchConfig:
        """The stitch of a number, or the anchor of a name.

        Raises:
            UnknownStitchError: there is none, or one that only an anchor's head would be left of.
        """
        if isinstance(stitch, str):
            called = self.anchor_names if self.anchor_names.count(stitch) == 1 else self.anchor_labels
            if stitch not in called:
                raise UnknownStitchError(f"no anchor alone is called {stitch!r}: there are {'; '.join(called)}")
            stitch = called.index(stitch)
        given = stitch.id if isinstance(stitch, StitchConfig) else stitch
        number = budget.number_of(given)
        if number is None or not 0 <= number < len(self._configs):
            near = budget.nearest_by_cost(self.stitches, given) if budget.is_a_cost(given) else ""
            raise UnknownStitchError(
                f"there is no stitch {given!r}: they are 0 to {len(self._configs) - 1}"
                + (f". If that is a cost, those of about so many FLOPs are {near}; see set_budget" if near else "")
            )
        config = self._configs[number]
        if isinstance(stitch, StitchConfig) and stitch.place != config.place:
            raise UnknownStitchError(
                f"stitch {number} of another network was given, through anchors {stitch.anchors} at cuts "
                f"{stitch.cuts}; here it runs through anchors {config.anchors} at cuts {config.cuts}"
            )
        if not config.usable and not self.allow_empty_end:
            near = budget.nearest_by_cost(stitches := self.stitches, stitches[number].flops)
            raise UnknownStitchError(
                f"stitch {number} runs no block of its last anchor, only its head: it is counted, as published, but "
                "not run, unless the network is made with allow_empty_end=True"
                + (f". Of about its cost in FLOPs are {near}" if near else "")
            )
        return config

    def path_of(self, stitch: SupportsIndex | StitchConfig | str) -> Path:
        """The path of a stitch; errors as of `config_of`."""
        return self._path_of(self.config_of(stitch))

    def _path_of(self, config: StitchConfig) -> Path:
        if self._left is not None and config.id != self._stitch:
            raise UnknownStitchError(f"of this network the features of stitch {self._stitch} alone are left")
        if config.id not in self._ready:
            steps = tuple(paths.plan(config, self._anchors, self.stitch_norm))
            self._ready[config.id] = paths.build(steps, self._anchors, self.stitch_layer)
        path = self._ready[config.id]
        if self._home is not None and config.id not in self._at_home:
            self._fetch(config, path.plan)
        return path

    def set_stitch(self, stitch: SupportsIndex | StitchConfig | str) -> StitchConfig:
        """Choose the path that runs from now on: a number, a config, or the name of an anchor.

        Returns:
            the stitch, with what it costs, as in `stitches`.

        Raises:
            UnknownStitchError: there is none.
        """
        return self.priced(self._choose(stitch))

    def _choose(self, stitch: SupportsIndex | StitchConfig | str) -> StitchConfig:
        """Let a path run from now on; what it costs is not asked for."""
        config = self.config_of(stitch)
        self._path = self._path_of(config)
        self._stitch = config.id
        return config

    reset_stitch_id = set_stitch

    @contextmanager
    def using(self, stitch: SupportsIndex | StitchConfig | str) -> Iterator["StitchNet"]:
        """Run another path within the block."""
        before = self._stitch
        self._choose(stitch)
        try:
            yield self
        finally:
            self._choose(before)

    def init_stitches(
        self,
        images: Any,
        *,
        num_samples: int = 100,
        rcond: float | None = None,
        ridge: float = 0.0,
        batch_size: int = 8,
    ) -> None:
        """Set the stitching layers to the least-squares maps between the anchors' features of some images.

        Args:
            images: as the anchors take them, normalised and not mixed: a tensor (N, C, H, W); an iterable, such as a
                loader, of batches, of single images, or of (images, labels); or a data set, of which samples are
                taken throughout.
            num_samples: images that are used, of as many as there are.
            rcond, ridge: as of `StitchLayer.fit`.
            batch_size: images that run at a time, which decides on the memory and not on the result.

        Raises:
            ValueError: images that the anchors do not take, none, values that are not finite, features that determine
                nothing. All layers stay as they were.
            TypeError: something else than images.
        """
        batches = initialise.batches_of(images, num_samples, batch_size)
        initialise.fit_layers(self._configs, self._anchors, self.stitch_layer, batches, rcond=rcond, ridge=ridge)
        self._forget_accuracies(stitched=True)

    def forward(self, x: Tensor, stitch: int | tuple[int, ...] | None = None) -> Any:
        """Scores of classes (B, num_classes), by the current path or by that of `stitch`.

        Of several stitches a tuple; what two paths begin with in common runs once.
        """
        # Plain annotations, for torch.fx writes them into its code; of the default it makes a proxy.
        if isinstance(stitch, torch.fx.Proxy):
            stitch = None
        if isinstance(stitch, tuple):
            return tuple(paths.run_several([self.path_of(number) for number in stitch], x, self._run))
        path = self._path if stitch is None else self.path_of(stitch)
        return path.head(self._features(x, path))

    def forward_features(self, x: Float[Tensor, "batch chans height width"]) -> Tensor:
        """What the head of the current path takes, in the layout of its last anchor."""
        return self._features(x, self._path)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pooling and classifier of the current path's last anchor."""
        return self._path.head(x, pre_logits=pre_logits)

    def _features(self, x: Tensor, path: Path) -> Tensor:
        if self._unsure and not self.training:
            self._warn_if_random(path)
        if self.grad_checkpointing:
            return self._checkpointed(x, path)
        for step in path.steps:
            x = step(x)
        return x

    @property
    def has_random_layers(self) -> bool:
        """Whether a stitching layer still is as it was drawn: not initialised on images, nor loaded, nor trained."""
        layers = (layer for layer in self.stitch_layers.modules() if isinstance(layer, StitchLayer))
        return any(self._is_drawn(layer.transform.weight) for layer in layers)

    def _note_drawn(self) -> None:
        """All layers are as they were drawn."""
        # Tensors made in inference mode, as zoo.predict makes them, count no changes.
        parameters = (p for p in self.stitch_layers.parameters() if not p.is_inference())
        self._drawn = {id(p): p._version for p in parameters}

    def _is_drawn(self, weight: Tensor) -> bool:
        return not weight.is_inference() and self._drawn.get(id(weight)) == weight._version

    def __getstate__(self) -> dict[str, Any]:
        # A copy has other tensors, of other versions.
        drawn = {name for name, p in self.stitch_layers.named_parameters() if self._is_drawn(p)}
        return {**vars(self), "_drawn": drawn}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        parameters = self.stitch_layers.named_parameters()
        self._drawn = {id(p): p._version for name, p in parameters if name in state["_drawn"]}

    def _warn_if_random(self, path: Path) -> None:
        """Say once that a path runs through layers that still are as they were drawn."""
        if torch.compiler.is_compiling():
            return
        for step in path.plan:
            if step.join is None:
                continue
            if self._is_drawn(self.stitch_layer(step.join).transform.weight):
                self._unsure = False
                warnings.warn(
                    "the stitching layers of this path are random: call init_stitches(images), load weights, or train",
                    stacklevel=4,
                )
                return


def _forget_loaded(net: StitchNet, keys: Any) -> None:
    """Layers that were loaded are not as they were drawn; tensors that took their place may have their numbers."""
    missing = {f"stitch_layers.{name}": id(p) for name, p in net.stitch_layers.named_parameters()}
    left = {missing[key] for key in keys.missing_keys if key in missing}
    net._drawn = {number: version for number, version in net._drawn.items() if number in left}
    net._accuracies_loaded(whole=not keys.missing_keys)
