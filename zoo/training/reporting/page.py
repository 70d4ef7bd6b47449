"""What stands in the report of a run, section by section; the templates give it its form."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zoo.training.data.bags import BagSet
from zoo.training.reporting.answers import Answers, show
from zoo.training.reporting.chart import Line, line_chart, thinned
from zoo.training.reporting.command import changed_settings, command, settings, unknown
from zoo.training.reporting.facts import RunFacts
from zoo.training.reporting.numbers import (
    calibration,
    calibration_error,
    class_rows,
    label_rows,
    largest_confusions,
)

#: Up to so many classes the confusion matrix has numbers in its cells, and names beside them.
NUMBERED, NAMED = 20, 50
#: Cells of a larger matrix that are drawn, the fullest first; pairs that are listed; images that are shown.
CELLS, PAIRS, SURE = 10_000, 15, 12
_NAMES = {
    "auprc": "AUPRC",
    "auroc": "AUROC",
    "ece": "calibration error (ECE)",
    "exact": "all labels right",
    "f1": "F1 (macro)",
    "f1_micro": "F1 (micro)",
    "lr": "learning rate",
    "mae": "mean distance (MAE)",
    "quadratic_kappa": "quadratic kappa",
    "top5": "top-5 accuracy",
}
_LINES = (("train", "training", "a"), ("val", "validation", "b"), ("ema", "EMA", "c"))


def run_page(run: RunFacts, answers: Answers | None, note: str | None, worst: int) -> dict[str, Any]:
    """The variables of run.html.jinja.

    Args:
        run: the run.
        answers: of its best model, if its data is there.
        note: why there are none.
        worst: how many mistakes to show.
    """
    return {
        "title": run.name,
        "kind": "run",
        "headline": _headline(run),
        "what": _what(run),
        "composition": [(slot, *_part(part)) for slot, part in run.parts.items()],
        "data": _data(run),
        "notes": _notes(run),
        "charts": _curves(run),
        "thinned": thinned(len(run.history)),
        "history": _history(run),
        "metrics": _metrics(run),
        "matrix": _matrix(run),
        "classes": _classes(run, answers),
        "calibration": _calibration(run, answers),
        "mistakes": None if answers is None else _mistakes(answers, worst),
        "note": note,
        "multi_label": run.multi_label,
        "noun": run.noun,
        "split": run.split,
        "samples": run.measured.get("samples"),
        "settings": _settings(run),
        "versions": run.args["versions"],
        "command": command(run),
        "unknown": unknown(run),
    }


def metric_name(name: str) -> str:
    """A metric, or a column of the history, in words."""
    return _NAMES.get(name, name.replace("_", " "))


def number(value: Any) -> str:
    """A metric's value with four decimals."""
    if value is None:
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def duration(seconds: float | None) -> str:
    """Seconds in words."""
    if seconds is None:
        return "not recorded"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _headline(run: RunFacts) -> list[tuple[str, str, str]]:
    """(what, value, of what): the numbers that one looks for first."""
    cards = []
    if run.split:
        cards.append((metric_name(run.monitor), number(run.measured.get(run.monitor)),
                      f"{run.split} split, {run.measured['samples']:,} {run.noun}s"))  # fmt: skip
    of = f"of {len(run.history)}" + ("" if len(run.history) == run.options["epochs"] else ", ended early")
    cards.append(("best epoch", str(run.best_epoch or "–"), of))
    if run.params is not None:
        cards.append(("parameters", f"{run.params:,}", run.args["model"]))
    processes = run.args["processes"]
    where = ["1 process" if processes == 1 else f"{processes} processes", *filter(None, [run.args.get("device")])]
    cards.append(("training", duration(run.seconds), ", ".join(where)))
    return cards


def _what(run: RunFacts) -> list[tuple[str, str]]:
    """What was trained, on what, where from."""
    weights = run.given.get("weights", run.given.get("pretrained"))
    started = {True: "its weights", False: "random weights"}.get(weights)  # type: ignore[arg-type]
    asked = run.given.get("model") or run.options["model"]
    if "weights" in run.given and weights is None:
        started = "a module with the weights that it had"
    rows = [("model", run.args["model"]), ("started from", asked + (f", {started}" if started else ""))]
    if run.params is not None:
        rows.append(("parameters", f"{run.params:,}"))
    size = run.config.get("pretrained_cfg", {}).get("input_size")
    if size:
        rows.append(("input", " × ".join(map(str, size))))
    if run.options.get("freeze"):
        frozen = run.options["freeze"]
        rows.append(("frozen", frozen if isinstance(frozen, str) else ", ".join(frozen)))
    licence = run.config.get("pretrained_cfg", {}).get("license")
    if licence:
        rows.append(("licence of the weights", licence))
    return rows


def _part(part: Any) -> tuple[str, str]:
    """A part's name, and its options as text."""
    if isinstance(part, str):
        return part, ""
    options = {k: v for k, v in part.items() if k != "type"}
    return str(part.get("type")), ", ".join(f"{k} = {json.dumps(v)}" for k, v in options.items())


def _data(run: RunFacts) -> list[tuple[str, str]]:
    data = run.args["data"]
    rows = [("name", data["name"])]
    if run.source and run.source != data["name"]:
        rows.append(("source", run.source))
    rows += [(f"{run.noun}s", ", ".join(f"{n:,} {split}" for split, n in data["images"].items()))]
    rows += [
        (
            "classes",
            f"{len(run.classes):,}"
            + (f", several labels {'a' if run.noun == 'bag' else 'an'} {run.noun}" if run.multi_label else ""),
        )
    ]
    return rows


def _notes(run: RunFacts) -> list[str]:
    notes = []
    if not run.metrics:
        notes.append(f"The run is not finished: {len(run.history)} of {run.options['epochs']} epochs are done.")
    elif not run.split:
        notes.append("Nothing was held out: there are no final metrics.")
    elif run.split == "train":
        notes.append("Nothing was held out: the metrics are of what was learned from, and say nothing of others.")
    elif run.split == "val":
        notes.append(
            "There was no test split. The metrics are of the validation split, by which the best epoch was chosen: "
            "they flatter the model a little."
        )
    absent = run.measured.get("auroc_absent")
    if absent:
        names = ", ".join(repr(run.classes[k]) for k in absent[:5])
        notes.append(
            f"No AUROC: {names}{' and others' if len(absent) > 5 else ''} has no {run.noun} (or no other) here."
        )
    return notes


def _curves(run: RunFacts) -> list[Any]:
    """Loss, monitored metric and learning rate."""

    def line(column: str, label: str, style: str) -> Line:
        rows = [row for row in run.history if row.get(column) is not None]
        return Line(label, [(row["epoch"], row[column]) for row in rows], style)

    best = next((row for row in reversed(run.history) if row.get("best")), None)
    drawn = [("loss", [line(f"{key}_loss", label, style) for key, label, style in _LINES])]
    if run.monitor != "loss":
        lines = [line(f"{key}_{run.monitor}", label, style) for key, label, style in _LINES]
        drawn.append((metric_name(run.monitor), lines))
    drawn.append(("learning rate", [line("lr", "learning rate", "a")]))
    charts = []
    for title, lines in drawn:
        if not any(one.points for one in lines):
            continue
        mark = None
        if best is not None and title == metric_name(run.monitor):
            value = best.get(f"{best['best']}_{run.monitor}")
            mark = None if value is None else (best["epoch"], value)
        charts.append(line_chart(title, lines, mark=mark))
    return charts


def _history(run: RunFacts) -> dict[str, Any]:
    """The table of all epochs."""
    columns = list(dict.fromkeys(key for row in run.history for key in row))
    shown = [[_cell(key, row.get(key)) for key in columns] for row in run.history]
    return {"columns": [metric_name(key) for key in columns], "rows": shown}


def _cell(key: str, value: Any) -> str:
    if key == "lr" and isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, float):
        return f"{value:.1f}" if key == "seconds" or key.endswith("_per_second") else f"{value:.4f}"
    return "" if value is None else str(value)


def _metrics(run: RunFacts) -> dict[str, Any]:
    """A row a metric, a column a split."""
    splits = [name for name in ("val", "test") if isinstance(run.metrics.get(name), dict)]
    names = [
        name
        for name in dict.fromkeys(name for split in splits for name in run.metrics[split])
        if name != "samples" and not any(isinstance(run.metrics[split].get(name), list | dict) for split in splits)
    ]
    return {
        "splits": [(split, run.metrics[split]["samples"]) for split in splits],
        "rows": [
            (metric_name(name), name == run.monitor, [number(run.metrics[split].get(name)) for split in splits])
            for name in names
        ],
    }


def _matrix(run: RunFacts) -> dict[str, Any] | None:
    """The confusion matrix: as a table of numbers, or as a drawing when there are many classes."""
    if run.confusion is None:
        return None
    counts = np.asarray(run.confusion)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    found = {
        "numbered": len(counts) <= NUMBERED,
        "pairs": [
            (run.classes[i], run.classes[j], n, part) for i, j, n, part in largest_confusions(run.confusion, PAIRS)
        ],
        "wrong": int(counts.sum() - counts.trace()),
        "classes": run.classes,
    }
    if found["numbered"]:
        found["rows"] = [
            (name, [(int(n), _percent(part), level(part)) for n, part in zip(row, parts, strict=True)])
            for name, row, parts in zip(run.classes, counts, share, strict=True)
        ]
        return found
    order = np.argsort(-counts, axis=None, kind="stable")[:CELLS]
    places = [(int(i), int(j)) for i, j in zip(*np.unravel_index(order, counts.shape), strict=True)]
    found["cells"] = [(i, j, int(counts[i, j]), level(share[i, j]), _percent(share[i, j]))
                      for i, j in places if counts[i, j]]  # fmt: skip
    found["left_out"] = int((counts > 0).sum()) - len(found["cells"])
    found["named"] = len(counts) <= NAMED
    return found


def level(share: float) -> int:
    """The shade of a share, from 0 to 10; what is not nothing is seen."""
    return 0 if share == 0 else max(1, round(share * 10))


def _percent(share: float) -> str:
    """A share in a cell: short, and 0 for nothing alone."""
    if share == 0:
        return "0"
    return f"{share * 100:.0f} %" if share >= 0.0095 else "< 1 %"


def _classes(run: RunFacts, answers: Answers | None) -> dict[str, Any] | None:
    """The table of classes, with their number in every split where the data is at hand."""
    if run.confusion is not None:
        rows = class_rows(run.confusion, run.classes)
    elif answers is not None and run.multi_label:
        rows = label_rows(answers.probabilities, answers.targets, run.classes)
    else:
        return None
    counts: Mapping[str, Sequence[int]] = {} if answers is None else answers.counts
    most = max((max(column) for column in counts.values()), default=0)
    return {
        "splits": list(counts),
        "rows": [(row, [column[k] for column in counts.values()]) for k, row in enumerate(rows)],
        "most": most,
        "auroc": run.multi_label,
    }


def _calibration(run: RunFacts, answers: Answers | None) -> dict[str, Any] | None:
    if answers is None or run.multi_label or run.measured.get("ece") is None:
        return None
    bins = calibration(answers.probabilities, answers.targets)
    points = [(sure, right) for sure, right, _ in bins]
    return {
        "chart": line_chart(
            "share of right answers",
            [Line("right", points, "a")],
            x_label="probability of the answer",
            square=True,
        ),
        "bins": bins,
        "ece": calibration_error(bins),
    }


def _mistakes(answers: Answers, worst: int) -> dict[str, Any]:
    """The images with the largest losses: those answered wrongly, then the least sure of the right ones."""
    right = answers.right
    order = np.argsort(-answers.losses, kind="stable")
    wrong = [int(i) for i in order if not right[i]]
    unsure = [int(i) for i in order if right[i]][: min(SURE, worst)]
    return {
        "count": len(wrong),
        "of": len(right),
        "wrong": [show(answers, i) for i in wrong[:worst]],
        "unsure": [show(answers, i) for i in unsure],
        "instances": isinstance(answers.images, BagSet) and hasattr(answers.net, "association"),
    }


def _settings(run: RunFacts) -> list[tuple[str, str, bool]]:
    """(name, value, whether it differs from the default)."""
    changed = changed_settings(run)
    every = {**run.options, **{k: v for k, v in settings(run).items() if k not in run.options}}
    return [
        (name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), name in changed)
        for name, value in every.items()
    ]
