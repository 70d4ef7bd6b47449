"""What a model is made of, what of it is trained, and what that costs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from zoo.composition.composed import Change, Composed
from zoo.composition.composite import without_memory
from zoo.composition.probe import example_input
from zoo.composition.spec import Spec
from zoo.layers.modes import evaluating
from zoo.models.placed import placed_copy


@dataclass
class Summary:
    """Facts of a model; printed, a table.

    Attributes:
        name: of the model, or of its base.
        spec: of a composed model.
        changes: one a replaced part.
        left: path -> why a part that looks replaceable stayed.
        lost: path -> what a replaced part did that the new one does not.
        params, macs: parameters, and multiply-accumulates of one image; `None` where they cannot be counted.
        base_params, base_macs: those of the base.
        input_size: (channels, height, width) at which they were counted.
        weights: what the weights of the base are.
        trainable: parameters that are not frozen.
    """

    name: str
    spec: dict[str, Any] | None
    changes: list[Change]
    left: dict[str, str]
    lost: dict[str, str]
    params: int
    macs: int | None
    input_size: tuple[int, ...]
    weights: str
    trainable: int
    base_params: int | None = None
    base_macs: int | None = None
    _groups: list[list[Change]] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        for change in self.changes:
            alike = (change.slot, change.old, change.new, change.init)
            group = next((g for g in self._groups if (g[0].slot, g[0].old, g[0].new, g[0].init) == alike), None)
            if group is None:
                self._groups.append([change])
            else:
                group.append(change)

    def __str__(self) -> str:
        lines = [self.name if self.spec is None else f"{self.name}, composed"]
        if self.spec is not None:
            lines.append(f"spec        {json.dumps(self.spec, default=_class_name)}")
        rows = [["part", "where", "was", "is", "parameters", "begins as"]]
        rows += [_row(group) for group in self._groups]
        if len(rows) > 1:
            widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
            lines += [
                "",
                *("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows),
                "",
            ]
        lines += [f"left as is  {path}: {reason}" for path, reason in _few(self.left)]
        lines += [f"lost        {path}: {what}" for path, what in _few(self.lost)]
        lines.append(f"parameters  {_change(self.base_params, self.params)}")
        if self.trainable != self.params:
            lines.append(f"trainable   {self.trainable:,}")
        if self.macs is not None:
            size = "×".join(map(str, self.input_size))
            one = "row" if len(self.input_size) == 1 else "image"
            lines.append(f"MACs        {_change(self.base_macs, self.macs)} (one {one}, {size})")
        lines.append(f"weights     {self.weights}")
        return "\n".join(lines)


def summary(model: nn.Module) -> Summary:
    """Describe a model: parts replaced and how they began, what is pretrained and what new, parameters and FLOPs.

    Args:
        model: made by `zoo.create_model`, composed or not.

    Returns:
        A `Summary`; `print` shows a table. MACs (half the FLOPs) are those of torch's own counter, for one image.

    Raises:
        TypeError: not a model.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"summary takes a model, got {model!r}: zoo.summary(zoo.create_model({model!r}))")
    cfg = getattr(model, "pretrained_cfg", None) or {}
    name = getattr(model, "zoo_name", None) or cfg.get("architecture") or type(model).__name__
    params = sum(p.numel() for p in model.parameters())
    twin = without_memory(Spec.of(model.zoo_spec)) if isinstance(model, Composed) else None
    facts: dict[str, Any] = {
        "params": params,
        "macs": count_macs(twin if twin is not None else model),
        "input_size": tuple(example_input(model, 1, torch.device("meta")).shape[1:]),
        "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
    }
    source = getattr(model, "zoo_source", None)
    if not isinstance(model, Composed):
        return Summary(name, None, [], {}, {}, weights=f"from {source}" if source else "as the model was made", **facts)
    composition = model.zoo_composition
    base = without_memory(Spec(composition.spec.base, {}, {**composition.spec.arguments, **_adapted(model)}))
    changes = composition.changes
    if composition.loaded:
        weights = f"all from {source or composition.loaded}"
        changes = [replace(change, init="loaded", error=None) for change in changes]
    else:
        new = ", ".join(dict.fromkeys(c.slot for c in changes if c.init == "own"))
        copied = ", ".join(dict.fromkeys(c.slot for c in changes if c.init == "match"))
        weights = f"{composition.weights or 'random'} (base); {f'copied: {copied}; ' if copied else ''}"
        weights += f"new: {new or 'nothing'}"
    return Summary(
        composition.spec.base,
        model.zoo_spec,
        changes,
        composition.left,
        composition.lost,
        weights=weights,
        base_params=sum(p.numel() for p in base.parameters()) if base is not None else None,
        base_macs=count_macs(base) if base is not None else None,
        **facts,
    )


def _adapted(model: nn.Module) -> dict[str, Any]:
    return {k: v for k in ("num_classes", "in_chans") if isinstance(v := getattr(model, k, None), int)}


def count_macs(model: nn.Module) -> int | None:
    """Multiply-accumulates of one image, by torch's counter of FLOPs; `None` where the model cannot run.

    Counted on the meta device, where layers compute by the operations that the counter knows; where a model cannot run
    there, on its own device, by what it does there.
    """
    try:
        return _counted(placed_copy(model, "meta"))
    except Exception:
        pass
    try:
        return _counted(model)
    except Exception:
        return None


def _counted(model: nn.Module) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with evaluating(model), torch.no_grad(), counter:
        model(example_input(model, 1))
    return counter.get_total_flops() // 2


def _row(group: list[Change]) -> list[str]:
    first = group[0]
    where = first.path if len(group) == 1 else f"{first.path} … {group[-1].path} ({len(group)})"
    old, new = sum(c.old_params for c in group), sum(c.new_params for c in group)
    start = {"loaded": "as it was loaded"}.get(first.init, "new")
    if first.init == "match":
        errors = [c.error for c in group if c.error is not None]
        span = f"{min(errors):.2g}" if min(errors) == max(errors) else f"{min(errors):.2g} to {max(errors):.2g}"
        start = f"copy of what was there, relative error {span}"
    return [first.slot, where, first.old or "–", first.new, f"{old:,} → {new:,}", start]


def _change(before: int | None, after: int) -> str:
    if before is None or before == after:
        return f"{after:,}"
    return f"{before:,} → {after:,} ({after / before:.2f}×)"


def _few(left: dict[str, str]) -> list[tuple[str, str]]:
    by_reason: dict[str, list[str]] = {}
    for path, reason in left.items():
        by_reason.setdefault(reason, []).append(path)
    return [(p[0] if len(p) == 1 else f"{p[0]} and {len(p) - 1} more", reason) for reason, p in by_reason.items()]


def _class_name(value: Any) -> str:
    return getattr(value, "__name__", repr(value))
