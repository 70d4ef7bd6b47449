"""Writes docs/gallery.md from the catalogue: `python docs/generate.py`. A test holds the two equal."""

from __future__ import annotations

from pathlib import Path

from zoo.registry import Entry, default_registry

PAGE = Path(__file__).parent / "gallery.md"


def _count(number: int | None) -> str:
    return f"{number:,}" if number else "–"


def _paper(entry: Entry) -> str:
    family = entry.family
    return f"[{family.arxiv}](https://arxiv.org/abs/{family.arxiv}), {family.year}" if family.arxiv else "–"


def _model_row(entry: Entry) -> str:
    size = "×".join(map(str, entry.input_size)) if entry.input_size else "–"
    alias = f" (also {', '.join(f'`{a}`' for a in entry.aliases)})" if entry.aliases else ""
    return f"| `{entry.name}`{alias} | {size} | {_count(entry.params)} | {_count(entry.macs)} | {entry.summary} |"


def gallery() -> str:
    """The page as Markdown."""
    registry = default_registry()
    lines = ["# Gallery", "", "Everything in the catalogue, written by `python docs/generate.py`.", ""]
    families = {e.family.name: e.family for e in [*registry.models, *registry.modules]}
    for family in families.values():
        models = [e for e in registry.models if e.family is family or e.family.name == family.name]
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


if __name__ == "__main__":
    PAGE.write_text(gallery(), encoding="utf-8")
