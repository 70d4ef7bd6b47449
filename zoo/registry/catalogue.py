"""Reads the catalogue: `registry/*.toml` (families, models, modules) and `weights/*.toml` (checkpoints)."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from zoo.errors import RegistrationError
from zoo.naming import check_keywords
from zoo.registry.entry import KINDS, Entry, Family, WeightsEntry

_PACKAGE = Path(__file__).resolve().parents[1]


def data_folder(name: str) -> Path:
    """Folder of the `registry` or `weights` data: inside an installed package, or beside the source in a checkout."""
    installed = _PACKAGE / name / "data"
    return installed if installed.is_dir() else _PACKAGE.parent / name


def _read(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except tomllib.TOMLDecodeError as error:
        raise RegistrationError(f"{path.name}: not valid TOML: {error}") from error


_FAMILY_KEYS = {f.name for f in fields(Family)} - {"name"}
_ENTRY_KEYS = {f.name for f in fields(Entry)} - {"name", "kind", "family", "source", "_loader"}
_WEIGHTS_KEYS = {f.name for f in fields(WeightsEntry)} - {"arch", "tag", "path"}


def _entry(name: str, kind: str, row: Mapping[str, Any], family: Family) -> Entry:
    check_keywords(row, _ENTRY_KEYS, f"catalogue entry {name!r}")
    values = dict(row)
    for key in ("aliases", "input_size", "uses"):
        if key in values:
            values[key] = tuple(values[key])
    return Entry(name=name, kind=kind, family=family, **values)


def read_family(path: Path) -> Iterator[Entry]:
    """The entries of one TOML file.

    Raises:
        RegistrationError: not TOML, an unknown table, or an unknown kind.
        TypeError: an unknown key in a row.
    """
    document = _read(path)
    check_keywords(document, ("family", "models", "modules"), path.name)
    facts = document.get("family", {})
    check_keywords(facts, _FAMILY_KEYS, f"{path.name} [family]")
    family = Family(name=path.stem, **facts)
    for name, row in document.get("models", {}).items():
        yield _entry(name, "model", row, family)
    for name, row in document.get("modules", {}).items():
        kind = name.partition("/")[0]
        if kind not in KINDS or "/" not in name:
            raise RegistrationError(f"{path.name}: module {name!r} must be named 'kind/name', kind one of {KINDS}")
        yield _entry(name, kind, row, family)


def read_weights(path: Path) -> Iterator[WeightsEntry]:
    """The checkpoints of one manifest; an embedded file is `path`, one on the Hub is `repo`, `revision`, `file`."""
    for arch, tags in _read(path).items():
        for tag, row in tags.items():
            check_keywords(row, _WEIGHTS_KEYS, f"{path.name} [{arch}.{tag}]")
            values = dict(row)
            values["label_names"] = tuple(values.get("label_names", ()))
            values["cfg"] = values.get("cfg", {})
            embedded = None if values.get("repo") else path.parent / values["file"]
            yield WeightsEntry(arch=arch, tag=tag, path=embedded, **values)


def read_catalogue() -> tuple[list[Entry], list[WeightsEntry]]:
    """Everything that ships with the package."""
    entries = [e for path in sorted(data_folder("registry").glob("*.toml")) for e in read_family(path)]
    weights = [w for path in sorted(data_folder("weights").glob("*.toml")) for w in read_weights(path)]
    return entries, weights
