"""What a config.json may say, whoever wrote it: types, bounds, and names that stay in the folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from zoo.errors import ConfigError
from zoo.weights.strict_json import shorten

_NAME = re.compile(r"\w[\w.-]{0,199}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
#: No option of a model is larger; one that is would only make its constructor run for hours.
MAX_NUMBER = 1_000_000
_MAX_REPEATS = 4_096
_REPEATS = re.compile(r"depth|layer|block|stage|repeat")
_MAX_VALUES = 20_000
_MAX_TEXT = 10_000


def is_safe_name(name: Any) -> bool:
    """Whether a file name, `/` between its parts, is one inside a folder, on every system."""
    if not isinstance(name, str) or not 0 < len(name) <= 1000 or any(c in "\\:" or c < " " for c in name):
        return False
    parts = name.split("/")
    return all(len(p.encode("utf-8", "replace")) <= 255 and p == p.rstrip(". ") and p for p in parts)


def check_architecture(value: Any, where: str) -> str:
    """The name of a model: no path, no module to import."""
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{where} names no architecture (a text under the key 'architecture')")
    if not _NAME.fullmatch(value):
        raise ConfigError(
            f"{where}: the architecture {shorten(value)} is no name of a model (letters, digits, '_', '-', '.'); files "
            f"and modules are never loaded by it"
        )
    return value


def _whole(minimum: int, maximum: int = 2**31 - 1) -> Callable[[Any], bool]:
    return lambda v: type(v) is int and minimum <= v <= maximum


def _number(v: Any) -> bool:
    return type(v) in (int, float)


def _text(v: Any) -> bool:
    return isinstance(v, str) and len(v) <= 100_000


def _several(inside: Callable[[Any], bool], *counts: int) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, tuple | list) and (not counts or len(v) in counts) and all(map(inside, v))


def _either(*checks: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda v: any(check(v) for check in checks)


def _paths(v: Any) -> bool:
    return _text(v) or _several(_text)(v)


def _texts(v: Any) -> bool:
    return isinstance(v, Mapping) and all(_text(x) or type(x) is int for x in v.values())


_SIZE = _several(_whole(1, MAX_NUMBER), 3)
_PAIR = _several(_whole(1, MAX_NUMBER), 1, 2)
_LABEL = _either(_text, _whole(-(2**31)))
#: Field of timm's PretrainedCfg -> (its check, what it must be).
_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "input_size": (_SIZE, "[channels, height, width]"),
    "test_input_size": (_SIZE, "[channels, height, width]"),
    "min_input_size": (_SIZE, "[channels, height, width]"),
    "fixed_input_size": (lambda v: isinstance(v, bool), "true or false"),
    "custom_load": (lambda v: isinstance(v, bool), "true or false"),
    "interpolation": (_text, "a text"),
    "crop_mode": (_text, "a text"),
    "crop_pct": (lambda v: _number(v) and 0 < v <= 10, "a number above 0"),
    "test_crop_pct": (lambda v: _number(v) and 0 < v <= 10, "a number above 0"),
    "mean": (_either(_number, _several(_number)), "a list of numbers"),
    "std": (_either(_number, _several(_number)), "a list of numbers"),
    "num_classes": (_whole(0), "a whole number from 0"),
    "label_offset": (_whole(0), "a whole number from 0"),
    "label_names": (_either(_several(_LABEL), _texts), "a list of texts"),
    "label_descriptions": (_either(_texts, _several(_LABEL)), "a mapping of texts"),
    "pool_size": (_either(_PAIR, _several(_whole(1, MAX_NUMBER))), "a list of whole numbers"),
    "test_pool_size": (_either(_PAIR, _several(_whole(1, MAX_NUMBER))), "a list of whole numbers"),
    "first_conv": (_paths, "a dotted name, or several"),
    "classifier": (_paths, "a dotted name, or several"),
    "architecture": (_text, "a text"),
    "tag": (_text, "a text"),
    "license": (_text, "a text"),
    "description": (_text, "a text"),
    "origin_url": (_text, "a text"),
    "paper_name": (_text, "a text"),
    "paper_ids": (_paths, "a text, or several"),
    "notes": (_paths, "a text, or several"),
}


def check_fields(cfg: Mapping[str, Any], where: str) -> None:
    """Types and ranges of timm's fields."""
    for name, (check, wanted) in _FIELDS.items():
        value = cfg.get(name)
        if value is not None and not check(value):
            raise ConfigError(f"{where}: {name} must be {wanted}, got {shorten(value)}")


def check_arguments(args: Mapping[str, Any], where: str) -> None:
    """The constructor's arguments: identifiers, and values of a size that a model can have."""
    values: list[tuple[str, Any]] = []
    for key, value in args.items():
        if not key.isidentifier() or len(key) > 100:
            raise ConfigError(f"{where}: {shorten(key)} in model_args is no name of an argument")
        values.append((key, value))
    count = 0
    while values:
        path, value = values.pop()
        count += 1
        if count > _MAX_VALUES:
            raise ConfigError(f"{where}: model_args hold more than {_MAX_VALUES:,} values")
        if isinstance(value, dict):
            values += [(f"{path}.{key[:50]}", inner) for key, inner in value.items()]
        elif isinstance(value, list):
            values += [(path, inner) for inner in value[: _MAX_VALUES + 1]]
        elif isinstance(value, str) and len(value) > _MAX_TEXT:
            raise ConfigError(f"{where}: {path} in model_args is a text of {len(value):,} characters")
        elif isinstance(value, int) and path != "num_classes" and not path.endswith("seed"):
            limit = _MAX_REPEATS if _REPEATS.search(path) else MAX_NUMBER
            if abs(value) > limit:  # the classes are compared with the weights
                bound = f"which no model is built with (at most {limit:,})"
                raise ConfigError(f"{where}: {path} in model_args is {shorten(value)}, {bound}")


def check_block(block: Mapping[str, Any], where: str) -> None:
    """The zoo's own block: the files it speaks of, what it requires, and its facts."""
    kinds: dict[str, tuple[type, ...]] = {
        "version": (str,),
        "requires": (dict,),
        "files": (dict,),
        "spec": (dict,),
        "training": (dict,),
        "metrics": (list,),
        "params": (int,),
        "dtype": (str, list),
        "base_model": (str,),
    }
    for key, allowed in kinds.items():
        value = block.get(key)
        if value is not None and (not isinstance(value, allowed) or isinstance(value, bool)):
            raise ConfigError(f"{where}: zoo.{key} must be a {allowed[0].__name__}, got {shorten(value)}")
    for name, facts in (block.get("files") or {}).items():
        if not is_safe_name(name):
            raise ConfigError(f"{where}: zoo.files names {shorten(name)}, which is no file inside the folder")
        sha256, size = (facts.get("sha256"), facts.get("size")) if isinstance(facts, dict) else (1, 1)
        if not (sha256 is None or (isinstance(sha256, str) and _SHA256.fullmatch(sha256))):
            raise ConfigError(f"{where}: zoo.files records no SHA-256 (64 hex digits) for {name!r}: {shorten(facts)}")
        if not (size is None or (type(size) is int and size >= 0)):
            raise ConfigError(f"{where}: zoo.files records no size for {name!r}: {shorten(facts)}")
    for row in block.get("metrics") or []:
        if not isinstance(row, dict) or not isinstance(row.get("name"), str) or not _number(row.get("value")):
            raise ConfigError(f"{where}: zoo.metrics must be a list of {{name, value, …}}, got {shorten(row)}")
    for name, wanted in (block.get("requires") or {}).items():
        if not _NAME.fullmatch(name) or not isinstance(wanted, str) or len(wanted) > 200:
            raise ConfigError(f"{where}: zoo.requires[{shorten(name)}] is no requirement: {shorten(wanted)}")


def check_requirements(block: Mapping[str, Any], where: str) -> None:
    """Refuse a model that needs packages, or versions of them, which are not here.

    Raises:
        ConfigError: says what is needed, what is here, and how to get it.
    """
    from importlib.metadata import PackageNotFoundError, version

    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    from zoo._version import __version__

    written = f" (written by zoo {block['version']})" if block.get("version") else ""
    for name, wanted in (block.get("requires") or {}).items():
        try:
            here = __version__ if name in ("zoo", "zoo-layers") else version(name)
        except PackageNotFoundError:
            here = None
        try:
            fits = here is not None and SpecifierSet(wanted).contains(here, prereleases=True)
        except InvalidSpecifier as error:
            raise ConfigError(f"{where}: zoo.requires[{name!r}] is no version: {shorten(wanted)}") from error
        if not fits:
            package = "zoo-layers" if name == "zoo" else name
            has = f"here is {here}" if here else "it is not installed"
            raise ConfigError(f"{where}{written} needs {name} {wanted}, {has}: pip install -U '{package}{wanted}'")
