"""Writes docs/gallery.md from the catalogue: `python docs/generate.py`. A test holds the two equal.

`python docs/generate.py --coverage` also measures what can be replaced in which backbone, which takes minutes, and
writes the table into docs/composition.md.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from zoo.registry import Entry, default_registry

PAGE = Path(__file__).parent / "gallery.md"
COMPOSITION = Path(__file__).parent / "composition.md"
_MARKS = ("<!-- coverage -->\n", "<!-- /coverage -->")


def _count(number: int | None) -> str:
    return f"{number:,}" if number else "–"


def _paper(entry: Entry) -> str:
    family = entry.family
    link = f"[{family.arxiv}](https://arxiv.org/abs/{family.arxiv})" if family.arxiv else ""
    return ", ".join(filter(None, [link, str(family.year or "")])) or "–"


def _model_row(entry: Entry) -> str:
    size = "×".join(map(str, entry.input_size)) if entry.input_size else "–"
    alias = f" (also {', '.join(f'`{a}`' for a in entry.aliases)})" if entry.aliases else ""
    return f"| `{entry.name}`{alias} | {size} | {_count(entry.params)} | {_count(entry.macs)} | {entry.summary} |"


def gallery() -> str:
    """The page as Markdown."""
    registry = default_registry()
    lines = ["# Gallery", "", "Everything in the catalogue, written by `python docs/generate.py`.", ""]
    listed = [e for e in registry.models if not e.hidden]
    families = {e.family.name: e.family for e in [*listed, *registry.modules]}
    for family in families.values():
        models = [e for e in listed if e.family.name == family.name]
        modules = [e for e in registry.modules if e.family.name == family.name]
        first = (models or modules)[0]
        lines += [f"## {family.title}", ""]
        lines += [f"*{family.paper}*, {_paper(first)}.", ""] if family.paper else []
        if models:
            lines += ["| model | input | parameters | multiply-accumulates | what |", "|---|---|---:|---:|---|"]
            lines += [*map(_model_row, models), ""]
        rows = [w for m in models for t in registry.tags(m.name) if (w := registry.weights(f"{m.name}.{t}"))]
        if rows:
            lines += ["| checkpoint | trained on | reached | licence |", "|---|---|---|---|"]
            for row in rows:
                reached = ", ".join(f"{k} {v}" for k, v in row.metrics.items())
                lines.append(f"| `{row.name}` | {row.data} | {reached} | {row.licence} |")
            lines += ["", *[f"`{row.name}` was made by\n\n    {row.command}\n" for row in rows]]
        if modules:
            lines += ["| module | layout | what |", "|---|---|---|"]
            lines += [*[f"| `{e.name}` | {e.layout or '–'} | {e.summary} |" for e in modules], ""]
    return "\n".join(lines).rstrip() + "\n"


def coverage_module() -> ModuleType:
    """docs/coverage.py, which an installed package of that name must not stand in for."""
    spec = importlib.util.spec_from_file_location("docs_coverage", Path(__file__).parent / "coverage.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def coverage_table() -> str:
    """What can be replaced in which backbone, measured now, as a Markdown table."""
    module = coverage_module()
    return module.table(list(module.rows()))


def table_in(page: str) -> str:
    """The table that stands between the marks of a page."""
    return page.partition(_MARKS[0])[2].partition(_MARKS[1])[0].strip()


def with_table(page: str, table: str) -> str:
    """The page with another table between its marks."""
    before, start, rest = page.partition(_MARKS[0])
    _, end, after = rest.partition(_MARKS[1])
    if not start or not end:
        raise ValueError(f"the page has no {_MARKS[0].strip()} with a {_MARKS[1]} after it")
    return f"{before}{start}\n{table}\n\n{end}{after}"


if __name__ == "__main__":
    PAGE.write_text(gallery(), encoding="utf-8")
    if "--coverage" in sys.argv[1:]:
        COMPOSITION.write_text(with_table(COMPOSITION.read_text("utf-8"), coverage_table()), encoding="utf-8")
