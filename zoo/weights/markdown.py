"""Pieces of the Markdown of a card."""

from __future__ import annotations

import re


def table(head: list[str], rows: list[str]) -> str:
    """A table of finished rows."""
    return "\n".join([f"| {' | '.join(head)} |", "|" + "---|" * len(head), *rows])


def escape(text: str) -> str:
    """Text for a cell."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|")
