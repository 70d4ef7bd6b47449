"""What is claimed of a model: metrics and training data, brought into one checked form."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

_CONTEXT = ("split", "samples", "dataset", "dataset_type", "config")


def metric_rows(metrics: Any) -> list[dict[str, Any]]:
    """Metrics as rows `{"name", "value"[, "split", "samples", "dataset", ...]}`.

    Args:
        metrics: None, a mapping name -> number, in which `split`, `samples`, `dataset` (name) and `dataset_type` (its
            id on the Hub) say what was measured on, or a list of such rows with `name` and `value`. What is None in a
            mapping has no value and is left out. The content of a run's metrics.json counts, too: its numbers for
            `test`, or else for `val`.

    Raises:
        ValueError: a value that is no finite number, or a row without name or value.
    """
    if metrics is None:
        return []
    if isinstance(metrics, Mapping):
        metrics = _measured(metrics)
        context = {key: metrics[key] for key in _CONTEXT if metrics.get(key) is not None}
        rows = [
            {"name": str(k), "value": v, **context} for k, v in metrics.items() if k not in _CONTEXT and v is not None
        ]
    elif isinstance(metrics, Sequence) and not isinstance(metrics, str):
        rows = [dict(row) if isinstance(row, Mapping) else {"value": row} for row in metrics]
    else:
        raise ValueError(f"metrics must be a mapping name -> number or a list of rows, got {metrics!r}")
    for row in rows:
        if not isinstance(row.get("name"), str) or "value" not in row:
            raise ValueError(f"a row of metrics needs a 'name' (text) and a 'value' (number), got {row!r}")
        value = row["value"]
        value = value.item() if hasattr(value, "item") else value
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            raise ValueError(f"metric {row['name']!r} must be a finite number, got {row['value']!r}")
        row["value"] = int(value) if isinstance(value, int) else float(value)
    return rows


def _measured(metrics: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a run's metrics.json says of its last split, without lists and what has no value; others as they are."""
    for split in ("test", "val"):
        found = metrics.get(split)
        if isinstance(found, Mapping):
            context = {key: metrics[key] for key in _CONTEXT if metrics.get(key) is not None}
            numbers = {k: v for k, v in found.items() if k in _CONTEXT or (isinstance(v, Real) and v is not True)}
            return {"split": split, **context, **numbers}
    return metrics


def data_facts(train_data: Any) -> dict[str, Any]:
    """Training data as `{"name"[, "licence", "url", "split", "samples", "hub_id"]}`; empty when not stated.

    Args:
        train_data: None, a name or Hub id, or a mapping with `name` and any further facts.

    Raises:
        ValueError: neither.
    """
    if train_data is None:
        return {}
    facts = {"name": train_data} if isinstance(train_data, str) else train_data
    if not isinstance(facts, Mapping) or not isinstance(facts.get("name"), str) or not facts["name"]:
        raise ValueError(f"train_data must be a name or a mapping with a 'name', got {train_data!r}")
    facts = dict(facts)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", facts["name"]):
        facts.setdefault("hub_id", facts["name"])
    return facts
