"""What every command shares: errors as one line, results on stdout, progress on stderr."""

import functools
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import typer

from zoo.errors import ZooError

#: Parts of a model that can be replaced; as `zoo.composition.SLOTS`, which would import torch.
SLOTS = ("mlp", "mixer", "act", "pool", "head")


def debug() -> bool:
    """Whether tracebacks are wanted (`zoo --debug …` or `ZOO_DEBUG=1`)."""
    return os.environ.get("ZOO_DEBUG", "") not in ("", "0")


def friendly(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a command: an error that the user can act on is one line and exit code 1, not a traceback."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except (ZooError, ValueError, TypeError, OSError) as error:
            if debug():
                raise
            if not isinstance(error, ZooError) and type(error) not in (ValueError, TypeError) and not str(error):
                raise
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(1) from None

    return run


def echo_json(value: Any) -> None:
    """Print `value` as indented JSON on stdout."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=_plain))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, Sequence) else str(value)


def print_table(columns: list[str], rows: list[list[str]], *, right: tuple[str, ...] = ()) -> None:
    """Print a table: drawn on a terminal, tab-separated without a header when piped.

    Args:
        columns: headings.
        rows: cells, one list a row.
        right: headings of the columns that are aligned to the right (numbers).
    """
    if not sys.stdout.isatty():
        for row in rows:
            typer.echo("\t".join(row))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def human_count(number: int | None) -> str:
    """1234567 as `1.23 M`; an unknown number is a dash."""
    if number is None:
        return "–"
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.2f} {unit}"
    return str(number)
