"""A composition in words. Imports no torch: what it knows is in the catalogue and in the spec."""

from collections.abc import Mapping
from typing import Any

from zoo.cli._common import SLOTS
from zoo.registry import default_registry, is_model


def composed_of(args: Mapping[str, Any]) -> tuple[str | None, dict[str, dict[str, Any]]]:
    """Base and parts of a composition, from the arguments that make it; `(None, {})` of another model.

    Returns:
        The base's name, and slot -> `module`, `where`, `options` and `init` (None: left to the composer).
    """
    base = args.get("base")
    if not isinstance(base, str):
        return None, {}
    parts: dict[str, dict[str, Any]] = {}
    for slot in SLOTS:
        value = args.get(slot)
        if value is None:
            continue
        options = dict(value) if isinstance(value, Mapping) else {"type": value}
        name = str(options.pop("type", "?"))
        parts[slot] = {
            "module": name if "/" in name else f"{slot}/{name}",
            "where": options.pop("where", "all"),
            "init": options.pop("init", None),
            "options": options,
        }
    return base, parts


def base_in_words(base: str) -> str:
    """The base with whose it is."""
    return f"{base} ({'ours' if is_model(base) else 'of timm'})"


def part_in_words(slot: str, part: Mapping[str, Any]) -> str:
    """One part: which module, where, with which options, how it begins."""
    single = slot in ("head", "pool") and part["where"] == "all"
    words = [part["module"], *([] if single else [where_in_words(part["where"])])]
    words += [f"{key} {value}" for key, value in part["options"].items()]
    if part["init"] is not None:
        begins = {"match": "begins as a copy of what was there", "own": "begins anew"}
        words.append(begins.get(part["init"], f"init {part['init']}"))
    entry = next((e for e in default_registry().modules if e.name == part["module"]), None)
    return ", ".join(words) + (f": {entry.summary}" if entry is not None and entry.summary else "")


def where_in_words(where: Any) -> str:
    """Which places are meant."""
    if isinstance(where, list):
        return f"in place{'' if len(where) == 1 else 's'} {', '.join(map(str, where))} (counted from 0)"
    if where == "all":
        return "everywhere"
    word, colon, count = str(where).partition(":")
    if colon and word in ("first", "last"):
        return f"in the {word} {count} places" if count != "1" else f"in the {word} place"
    return f"in the places named {where}"
