"""One path of a stitched network as a network of its own, with the blocks that it runs and nothing else."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from timm.models._input import _get_global_pool
from torch import Tensor, nn

from zoo.layers.stitch import StitchLayer
from zoo.models.placed import computed_tensors
from zoo.models.stitching import path as paths
from zoo.models.stitching.anchors import Anchor, anchor_of
from zoo.models.stitching.anchors.anchor import embedded_size
from zoo.models.stitching.checks import check_anchors
from zoo.models.stitching.contract import grid_of
from zoo.models.stitching.features import PathFeatures, Tap, taps
from zoo.models.stitching.images import path_cfg, traits_of
from zoo.models.stitching.made import AnchorLike, make_anchor, name_of, rates_of
from zoo.models.stitching.path import PathStep
from zoo.models.stitching.rebuilt import SHARED, anchor_args
from zoo.models.stitching.stitches import StitchConfig
from zoo.naming import check_keywords

#: What `config` may hold, and what it is where it does not.
_CONFIG: dict[str, Any] = {"anchors": None, "cuts": (), "stage": None, "stitch_norm": True, "lora_rank": 0}


class Stitched(PathFeatures):
    """The first blocks of an anchor, a stitching layer, the remaining blocks and the head of the next.

    (B, in_chans, H, W) -> (B, num_classes). Its tensors are `stem.*`, `blocks.{i}.*` (what leads from a stage into the
    next is one of them), `stitch.{i}.*`, `norm.*` and `head.*`. `StitchNet.export` makes it of a stitched network.

    Args:
        config: what it is made of, as `model.config` has it: `anchors`, from the one that takes the image to the one
            that answers, as `zoo.stitch` takes them (of models it keeps copies); `cuts`, between each two of them the
            last block of the one and the first of the other; `stage`, in which they are, of anchors with several
            stages; `stitch_norm`; `lora_rank`.
        num_classes, in_chans, img_size, global_pool, drop_rate: as of `StitchNet`.
        drop_path_rate: of all anchors, or one for each.

    Raises:
        ValueError: no anchors, another number of cuts than pairs of them, blocks that are not there, or anchors that
            cannot be stitched.
        TypeError: an unknown key in `config`, or an anchor that is not known how to cut.
    """

    feature_cfg: ClassVar[dict[str, Any]] = {"out_indices": None, "feature_cls": "getter"}

    def __init__(
        self,
        config: Any,
        *,
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
        given = _read(config)
        last = given["anchors"][-1]
        if isinstance(last, Mapping) and "global_pool" in last:  # the option would not win over it
            global_pool = global_pool or last["global_pool"]
            given["anchors"] = [*given["anchors"][:-1], {k: v for k, v in last.items() if k != "global_pool"}]
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        shared = {"num_classes": num_classes, "in_chans": in_chans, "img_size": img_size, "drop_rate": drop_rate, **dd}
        anchors: Sequence[AnchorLike] = given["anchors"]
        rates = rates_of(drop_path_rate, len(anchors))
        models: list[nn.Module] = []
        for place, (anchor, rate) in enumerate(zip(anchors, rates, strict=True)):
            own = {**shared, "drop_path_rate": rate}
            if place == len(anchors) - 1:
                own["global_pool"] = global_pool
            elif same := [i for i in range(place) if _equal(anchors[i], anchor)]:
                models.append(models[same[0]])
                continue
            models.append(make_anchor(anchor, own))
        wholes = [anchor_of(model) for model in models]
        names = [name_of(anchor, model) for anchor, model in zip(anchors, models, strict=True)]
        self._entries = [
            _entry(anchor, model, name, place)
            for place, (anchor, model, name) in enumerate(zip(anchors, models, names, strict=True))
        ]
        self.stage, self.stitch_norm, self.lora_rank = given["stage"], given["stitch_norm"], given["lora_rank"]
        self.cuts = tuple((int(front), int(end)) for front, end in given["cuts"])
        _check(wholes, names, self.cuts, self.stage)
        self._place = StitchConfig(0, tuple(range(len(anchors))), self.cuts, tuple(range(len(self.cuts))), self.stage)
        self._configs, self._stitch, self._ready = (self._place,), 0, {}
        self._take(wholes, tuple(paths.plan(self._place, wholes, self.stitch_norm)), dd)
        self.num_classes = wholes[-1].num_classes
        self.in_chans = int(getattr(models[0], "in_chans", in_chans or 3))
        self.grad_checkpointing = False
        self._left = None
        self.pretrained_cfg = self.default_cfg = {**path_cfg(anchors), "architecture": "stitched"}
        self._traits = traits_of([whole.img_size for whole in wholes], img_size, self.pretrained_cfg)
        self._refresh()

    @staticmethod
    def describe_parts(options: Mapping[str, Any]) -> dict[str, Any]:
        """Fields of timm's configuration that the constructor's options decide."""
        anchors = (options.get("config") or {}).get("anchors")
        return path_cfg(anchors) if anchors else {}

    def _take(self, wholes: Sequence[Anchor], plan: Sequence[PathStep], dd: dict[str, Any]) -> None:
        """Keep copies of what the steps run."""
        self.stem, self.blocks, self.stitch = nn.Identity(), nn.ModuleList(), nn.ModuleList()
        self.norm, self.head = nn.Identity(), nn.Identity()
        #: For each anchor, the names of its parts there and here.
        self._renamed: list[dict[str, str]] = [{} for _ in wholes]
        memo: dict[int, Any] = {}  # of all blocks, for some may share weights
        for whole in wholes:
            memo |= computed_tensors(whole.model)
        at = self.stage or 0
        for step in plan:
            whole, renamed = wholes[step.anchor], self._renamed[step.anchor]
            if step.join is not None:
                front, end = wholes[step.join[1]], wholes[step.join[2]]
                sizes = front.stages[at].width, end.stages[at].width
                how = {"layout": front.layout, "end_layout": end.layout, "grid": grid_of(front, end, at)}
                self.stitch.append(StitchLayer(*sizes, lora_rank=self.lora_rank, **how, **dd))
                continue
            assert step.piece is not None
            found = whole.names(step.piece)
            if step.piece.kind in ("stem", "head"):
                setattr(self, step.piece.kind, whole.copy_of((step.piece.kind,)))
                renamed |= {name: f"{step.piece.kind}.{name}" for name in found}
            elif step.piece.kind == "norm":
                (name,) = found
                self.norm = copy.deepcopy(whole.model.get_submodule(name), memo)
                renamed[name] = "norm"
            else:
                renamed[found[0]] = f"blocks.{len(self.blocks)}"
                self.blocks.append(copy.deepcopy(whole.piece(step.piece), memo))
        self._no_decay = {
            here + name.removeprefix(there)
            for whole, renamed in zip(wholes, self._renamed, strict=True)
            for name in getattr(whole.model, "no_weight_decay", set)()
            for there, here in renamed.items()
            if name == there or name.startswith(f"{there}.")
        }
        self._anchors: Any = [_Part(whole, self, renamed) for whole, renamed in zip(wholes, self._renamed, strict=True)]

    def merge(self) -> None:
        """Add low-rank products to their matrices, in place."""
        for place, layer in enumerate(self.stitch):
            if isinstance(layer, StitchLayer) and layer.lora_rank:
                self.stitch[place] = layer.merged()
        self.lora_rank = 0
        self._refresh()

    @property
    def stitch_layers(self) -> nn.ModuleList:
        """All stitching layers."""
        return self.stitch

    def stitch_layer(self, join: paths.Join) -> nn.Module:
        """The stitching layer at (stage or None, front anchor, end anchor, layer)."""
        return self.stitch[join[3]]

    @property
    def config(self) -> dict[str, Any]:
        """What it is made of, as the constructor takes it; classes, channels, size and pooling are options beside."""
        return {
            "anchors": list(self._entries),
            "cuts": [list(cut) for cut in self.cuts],
            "stage": self.stage,
            "stitch_norm": self.stitch_norm,
            "lora_rank": self.lora_rank,
        }

    @property
    def _model_args(self) -> dict[str, Any]:
        """timm's record of the arguments that make a model; here of those that make it as it is."""
        return {
            "config": self.config,
            "num_classes": self.num_classes,
            "in_chans": self.in_chans,
            "img_size": self._traits["img_size"],
            "global_pool": None if self._is_headless else _get_global_pool(self.head),
        }

    @_model_args.setter
    def _model_args(self, given: Mapping[str, Any]) -> None:
        """timm notes here what a model was made with and resized to, which this one knows by itself."""

    def forward(self, x: Tensor) -> Tensor:
        """Scores of classes (B, num_classes)."""
        return self._path.head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """What the head takes, in the layout of the last anchor."""
        if self.grad_checkpointing:
            return self._checkpointed(x, self._path)
        for step in self._path.steps:
            x = step(x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pooling and classifier."""
        return self._path.head(x, pre_logits=pre_logits)

    def get_classifier(self) -> Any:
        """The classifier; of a distilled head two."""
        found = super().get_classifier()
        return found[0] if len(found) == 1 else found

    @property
    def head_hidden_size(self) -> int:
        """Channels of what the classifier takes."""
        return (
            self.num_features if self._is_headless else int(getattr(self.head, "head_hidden_size", self.num_features))
        )

    def no_weight_decay(self) -> set[str]:
        """What the anchors name, of what is here."""
        return set(self._no_decay)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """The stem, then each block; the norm, the head and the stitching layers come last."""
        return {"stem": r"^stem", "blocks": [(r"^blocks\.(\d+)", None)]}

    def init_weights(self) -> None:
        """Draw all weights anew, of each part as its own methods do it."""
        for module in self.modules():
            for name in ("init_non_persistent_buffers", "reset_parameters"):
                if module is not self and callable(method := getattr(module, name, None)):
                    method()
        for part in (self.stem, self.head):
            if callable(method := getattr(part, "init_weights", None)):
                method()

    @property
    def set_input_size(self) -> Callable[..., None]:
        """Take images of another size: `set_input_size(img_size)`, as the first anchor's own method does it.

        Only where blocks take any number of tokens: windows belong to a size. Export such a path again, from the
        stitched network in the new size.
        """
        if not all(part.size is None or part.family.sized_by_stem for part in self._anchors):
            raise AttributeError(f"its blocks are made for images of {self._traits['img_size']} alone")
        return self._set_input_size

    def _with_heads(self) -> list[nn.Module]:
        return [] if self._is_headless else [self.head]

    @property
    def _is_headless(self) -> bool:
        return self._left is not None and not self._left.head

    def _resized(self) -> list[nn.Module]:
        return [self.stem]

    def _taps(self) -> list[Tap]:
        return taps(self._path.plan, self._anchors, prefix="")

    def _refresh(self) -> None:
        """Find the path anew: pieces of it were replaced."""
        if self._left is None:
            plan = tuple(paths.plan(self._place, self._anchors, self.stitch_norm))
            self._path = paths.build(plan, self._anchors, self.stitch_layer)


class _Part(Anchor):
    """An anchor of which some pieces are in a `Stitched`, under the names that they have there.

    Args:
        whole: the anchor.
        model: where the pieces are.
        renamed: names of its parts -> names there.
    """

    def __init__(self, whole: Anchor, model: nn.Module, renamed: Mapping[str, str]) -> None:
        stages = tuple(
            replace(
                stage,
                blocks=tuple(renamed.get(name, "") for name in stage.blocks),
                enter=renamed.get(stage.enter, ""),
            )
            for stage in whole.stages
        )
        norm = tuple(here for here in renamed.values() if here == "norm")
        prefix = whole.num_prefix_tokens
        super().__init__(
            model, stages, stem_names=("stem",), norm_names=norm, head_names=("head",), num_prefix_tokens=prefix
        )
        self.family, self.size = type(whole), whole.img_size
        self.layout: Any = whole.layout

    @property
    def img_size(self) -> tuple[int, int] | None:
        if self.size is None or not self.family.sized_by_stem:
            return self.size
        return embedded_size(self.model.stem)  # pyright: ignore[reportArgumentType]

    def stem(self, x: Tensor) -> Tensor:
        return self.family.run_stem(self.model.stem, x)  # pyright: ignore[reportArgumentType]

    def head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        return self.family.run_head(self.model.head, x, pre_logits)  # pyright: ignore[reportArgumentType]


def _read(config: Any) -> dict[str, Any]:
    """`config` with everything in it.

    Raises:
        TypeError: no mapping, or an unknown key.
        ValueError: no anchors, or cuts that are no pairs.
    """
    if not isinstance(config, Mapping):
        raise TypeError(f"config is a mapping with the keys {', '.join(_CONFIG)}, got a {type(config).__name__}")
    check_keywords(config, _CONFIG, "the config of a path")
    found = {**_CONFIG, **config}
    anchors = found["anchors"]
    if not isinstance(anchors, Sequence) or isinstance(anchors, str) or not anchors:
        raise ValueError(f"config['anchors'] is a list of one anchor or more, got {anchors!r}")
    if not all(isinstance(cut, Sequence) and len(cut) == 2 for cut in found["cuts"]):
        raise ValueError(f"config['cuts'] is a list of pairs (last block, first block), got {found['cuts']!r}")
    return found


def _check(anchors: Sequence[Anchor], names: Sequence[str], cuts: Sequence[tuple[int, int]], stage: int | None) -> None:
    """Refuse what is no path.

    Raises:
        ValueError: another number of cuts than pairs of anchors, no such stage or blocks, anchors that do not fit.
    """
    if len(cuts) != len(anchors) - 1:
        raise ValueError(f"{len(anchors)} anchors have {len(anchors) - 1} cuts between them, got {len(cuts)}")
    counts = {name: len(anchor.stages) for name, anchor in zip(names, anchors, strict=True)}
    if len(set(counts.values())) > 1:
        raise ValueError(f"anchors have equal numbers of stages, got {counts}")
    stages = len(anchors[0].stages)
    if (stage is not None and not 0 <= stage < stages) or (stage is None and cuts and stages > 1):
        raise ValueError(f"stage must be one of 0..{stages - 1}, in which the anchors are stitched, got {stage}")
    first = 0
    for place, (front, end) in enumerate(cuts):
        depth, depths = anchors[place].depths[stage or 0], anchors[place + 1].depths[stage or 0]
        if not first <= front < depth or not 0 <= end <= depths:
            raise ValueError(
                f"the cut ({front}, {end}) from {names[place]} to {names[place + 1]} needs a last block of "
                f"{first}..{depth - 1} and a first block of 0..{depths}"
            )
        first = end
    check_anchors(anchors, names, [(stage, place, place + 1) for place in range(len(cuts))])


def _entry(anchor: AnchorLike, model: nn.Module, name: str, number: int) -> Any:
    """What an anchor is rebuilt from."""
    if isinstance(anchor, nn.Module):
        return anchor_args(model, name, number, _get_global_pool(model))
    return anchor if isinstance(anchor, str) else {k: v for k, v in anchor.items() if k not in SHARED}


def _equal(one: AnchorLike, other: AnchorLike) -> bool:
    """Whether one model can stand for both."""
    return one == other if isinstance(one, str | Mapping) and isinstance(other, str | Mapping) else one is other
