"""What stands in the report of a comparison."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from zoo.errors import TrainingError
from zoo.training.comparison_result import FORMAT
from zoo.training.reporting.chart import Line, line_chart

#: As many lines have a colour of their own.
STYLES = "abcdefgh"
_WIDTH, _ROOM = 160, 8


def is_comparison(folder: Path) -> bool:
    """Whether `zoo.compare` wrote the folder."""
    return (folder / "comparison.json").is_file()


def comparison_page(folder: Path) -> dict[str, Any]:
    """The variables of comparison.html.jinja.

    Raises:
        TrainingError: a damaged file, or none of ours.
    """
    path = folder / "comparison.json"
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise TrainingError(f"{path} is damaged ({error}); run zoo.compare again to write it anew") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise TrainingError(f"{path} is not a comparison of this version of zoo ({FORMAT!r})")
    values = [run["value"] for row in content["rows"] for run in row["runs"] if run["value"] is not None]
    rows = [
        {
            **row,
            "style": STYLES[place % len(STYLES)],
            "spread": _spread(row, min(values), max(values)) if row["mean"] is not None else "",
            "runs": [_run(folder, run) for run in row["runs"]],
        }
        for place, row in enumerate(content["rows"])
    ]
    options = content["settings"].get("options") or {}
    return {
        "title": folder.resolve().name,
        "kind": "comparison",
        "base": content["base"],
        "data": content["data"],
        "metric": content["metric"],
        "split": content["split"],
        "rows": rows,
        "seeds": max(len(row["runs"]) for row in rows),
        "gpu": any(row["memory_of"] == "cuda" for row in rows),
        "charts": _charts(folder, content),
        "settings": [
            (name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), False)
            for name, value in options.items()
        ],
        "written_by": content["zoo"],
    }


def _run(folder: Path, run: dict[str, Any]) -> dict[str, Any]:
    """A run, with a link to its own report if there is one."""
    page = f"{run['folder']}/report.html"
    return {**run, "link": page if (folder / page).is_file() else None}


def _charts(folder: Path, content: dict[str, Any]) -> list[Markup]:
    """The monitored metric, and the training loss, of each variant's best run over the epochs."""
    found = []
    for column, title in ((f"val_{content['metric']}", f"validation {content['metric'].replace('_', ' ')}"),
                          ("train_loss", "training loss")):  # fmt: skip
        lines = []
        for place, row in enumerate(content["rows"]):
            points = [
                (epoch["epoch"], epoch[column])
                for epoch in _history(folder / row["folder"])
                if epoch.get(column) is not None
            ]
            lines.append(Line(row["variant"], points, STYLES[place % len(STYLES)]))
        if any(line.points for line in lines):
            found.append(line_chart(title, lines, legend=False))
    return found


def _history(folder: Path) -> list[dict[str, Any]]:
    try:
        return json.loads((folder / "history.json").read_text("utf-8"))
    except (OSError, ValueError):
        return []  # a run that failed, or was moved away


def _spread(row: dict[str, Any], low: float, high: float) -> Markup:
    """The values of a row's runs, their mean and its standard deviation, on the scale of all rows."""

    def px(value: float) -> float:
        share = (value - low) / (high - low) if high > low else 0.5
        return max(0.0, min(_WIDTH, _ROOM + share * (_WIDTH - 2 * _ROOM)))

    mean, std = row["mean"], row["std"]
    text = f"mean {mean:.4f}" + (f", standard deviation {std:.4f}" if std is not None else "")
    parts = [
        f'<svg class="spread" viewBox="0 0 {_WIDTH} 20" role="img"><title>{escape(text)}</title>',
        f'<path class="grid" d="M0 10H{_WIDTH}"/>',
    ]
    if std is not None:
        parts.append(f'<path class="std" d="M{px(mean - std):.1f} 10H{px(mean + std):.1f}"/>')
    values = [run["value"] for run in row["runs"] if run["value"] is not None]
    parts += [f'<circle class="one" cx="{px(value):.1f}" cy="10" r="3"/>' for value in values if len(values) > 1]
    return Markup("".join(parts) + f'<circle class="mean" cx="{px(mean):.1f}" cy="10" r="5"/></svg>')
