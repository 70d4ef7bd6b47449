"""The commands of `zoo` by name: each is imported when it is called, so that a short one starts quickly."""

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import typer
from typer.core import TyperGroup

_FUNCTIONS = {  # in the order in which the help lists them
    "list": "catalogue:list_",
    "info": "catalogue:info",
    "create": "composing:create",
    "train": "training:train",
    "compare": "training:compare",
    "eval": "training:eval_",
    "predict": "training:predict",
    "upscale": "upscale:upscale",
    "karyotype": "karyotype:karyotype",
    "report": "report:report",
    "app": "serving:app",
    "push": "hub:push",
    "pull": "hub:pull",
    "verify": "hub:verify",
    "convert": "hub:convert",
    "export": "export:export",
    "stitches": "stitches:stitches",
    "demo": "demo:demo",
}


def function(name: str) -> Callable[..., Any]:
    """The function of the command `name`, imported."""
    module, _, attribute = _FUNCTIONS[name].partition(":")
    return getattr(importlib.import_module(f"zoo.cli.{module}"), attribute)


class _Commands(Mapping[str, Any]):
    """Name -> command; a command is made when it is asked for."""

    def __getitem__(self, name: str) -> Any:
        if name not in _FUNCTIONS:
            raise KeyError(name)
        one = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        one.command(name)(function(name))
        return typer.main.get_command(one)

    def __iter__(self) -> Iterator[str]:
        return iter(_FUNCTIONS)

    def __len__(self) -> int:
        return len(_FUNCTIONS)


class Group(TyperGroup):
    """`zoo` itself. Its help is plain text: drawing it would take as long again as all else that a start does."""

    def __init__(self, **attrs: Any) -> None:
        super().__init__(**(attrs | {"commands": _Commands(), "rich_markup_mode": None}))

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of the help."""
        return list(self.commands)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write each command's name and the first paragraph of its documentation, whole."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _summary(function(name))) for name in self.commands])


def _summary(command: Callable[..., Any]) -> str:
    return " ".join((inspect.getdoc(command) or "").partition("\n\n")[0].split())
