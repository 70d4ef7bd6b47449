"""By which rules anchors were stitched, as far as the stitching layers of a checkpoint tell."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from torch import Tensor, nn

from zoo.errors import ConversionError
from zoo.models.stitching.stitches import layer_counts

_PLACE = re.compile(r"stitch_layers((?:\.\d+)+)\.transform\.weight")
_MOST_KERNEL = 8


def infer_rules(
    state: Mapping[str, Tensor], depths: Sequence[Sequence[int]], widths: Sequence[Sequence[int]]
) -> dict[str, Any]:
    """Constructor options of a `StitchNet` whose stitching layers are as many and as wide as these.

    What layers do not tell is as the authors have it: cuts "paired", layers between stages of different depths by
    their map, no final norm on the stitched paths of plain networks in one direction.

    Args:
        state: with `stitch_layers.*`.
        depths, widths: of every anchor, its stages' blocks and channels.

    Raises:
        ConversionError: no rule gives such layers.
    """
    counts, shapes = _counts(state), _shapes(state)
    for rules in _candidates(depths):
        made = _made(depths, rules)
        if made is None or list(made.values()) != counts:
            continue
        sizes = [(widths[end][stage or 0], widths[front][stage or 0]) for stage, front, end in made]
        if sizes == shapes:
            return {**rules, **_style(state, depths, rules)}
    raise ConversionError(
        f"no rule of stitching gives {counts} layers between anchors of {[list(d) for d in depths]} blocks a stage"
    )


def explain_mismatch(tensors: Mapping[str, Tensor], model: nn.Module) -> str:
    """Why the stitching layers of a checkpoint are not those of a model, and by which rules they would be; or ""."""
    depths = [anchor.depths for anchor in getattr(model, "_anchors", ())]
    if not depths:
        return ""
    ours, theirs = _counts(model.state_dict()), _counts(tensors)
    if ours == theirs:
        return ""
    said = f"the checkpoint has {theirs} stitching layers by pair of anchors, the model {ours}"
    has: Mapping[str, Any] = getattr(model, "_rules", {})
    candidates = list(_candidates(depths))
    # The model's own kind of cuts first; those in two directions have no windows.
    likely = [{**rules, "cuts": has.get("cuts")} for rules in candidates if has.get("cuts") in ("forward", "paired")]
    for rules in (*likely, *candidates):
        if list((_made(depths, rules) or {}).values()) == theirs:
            shown = ", ".join(f"{key}={value!r}" for key, value in rules.items() if value != has.get(key))
            return f"{said}; it would have as many with {shown}"
    return f"{said}, and with no kernel_size, stride, nearest, cuts or stages would it have as many"


def _groups(state: Mapping[str, Any]) -> dict[tuple[int, ...], list[str]]:
    """Pair (or stage and pair) of anchors -> names of the matrices of its layers."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for key in state:
        if match := _PLACE.fullmatch(key):
            *pair, _ = (int(part) for part in match[1][1:].split("."))
            groups.setdefault(tuple(pair), []).append(key)
    return dict(sorted(groups.items()))


def _counts(state: Mapping[str, Any]) -> list[int]:
    return [len(names) for names in _groups(state).values()]


def _shapes(state: Mapping[str, Tensor]) -> list[tuple[int, ...]]:
    return [tuple(state[names[0]].shape[:2]) for names in _groups(state).values()]


def _made(depths: Sequence[Sequence[int]], rules: Mapping[str, Any]) -> dict[Any, int] | None:
    try:
        return layer_counts(depths, **rules)
    except ValueError:
        return None


def _candidates(depths: Sequence[Sequence[int]]) -> Iterator[dict[str, Any]]:
    """Rules in the order of likelihood: the authors' first."""
    count = len(depths[0])
    spans = [list(range(a, b)) for a, b in combinations(range(count + 1), 2)]
    spans.sort(key=lambda span: (span[-1] == count - 1, -len(span)))
    stages = [None] if count == 1 else spans
    windows = [(2, 1), *((k, s) for k in range(1, _MOST_KERNEL + 1) for s in range(1, k + 1) if (k, s) != (2, 1))]
    if count == 1 and len(depths) == 2:
        yield {"cuts": "two_way"}
    for nearest in (True, False) if len(depths) > 2 else (True,):
        for kernel, stride in windows:
            for span in stages:
                rules: dict[str, Any] = {"cuts": "paired", "kernel_size": kernel, "stride": stride}
                yield {**rules, "nearest": nearest, "stages": span}


def _style(state: Mapping[str, Tensor], depths: Sequence[Sequence[int]], rules: Mapping[str, Any]) -> dict[str, Any]:
    two_way, plain = rules["cuts"] == "two_way", len(depths[0]) == 1
    style: dict[str, Any] = {"legacy_layer_map": True} if not two_way and not plain else {}
    if plain and not two_way:
        style["stitch_norm"] = False
    ranks = {value.shape[0] for key, value in state.items() if key.endswith(".lora_A")}
    if ranks:
        style["lora_rank"] = max(ranks)
    return style
