"""What a config.json may say, whoever wrote it: types, bounds, and names that stay in the folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from zoo.errors import ConfigError
from zoo.models.data_config import CROP_MODES, INTERPOLATIONS, MAX_STATISTIC, MIN_STD
from zoo.weights.strict_json import shorten

_NAME = re.compile(r"\w[\w.-]{0,199}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
#: No option of a model is larger; one that is would only make its constructor run for hours.
MAX_NUMBER = 1_000_000
_MAX_REPEATS = 4_096
_REPEATS = re.compile(r"depth|layer|block|stage|repeat")
_MAX_VALUES = 20_000
_MAX_TEXT = 10_000
_MAX_CROP = 10
_MAX_COUNT = 2**31 - 1
#: Above so many classes the numbers that a mapping of labels leaves out are not given names.
_MAX_LABELS = 100_000


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


def _whole(minimum: int, maximum: int = _MAX_COUNT) -> Callable[[Any], bool]:
    return lambda v: type(v) is int and minimum <= v <= maximum


def _number(v: Any) -> bool:
    return type(v) in (int, float)


def _text(v: Any) -> bool:
    return isinstance(v, str) and len(v) <= 100_000


def _within(minimum: float, maximum: float) -> Callable[[Any], bool]:
    return lambda v: _number(v) and minimum <= v <= maximum


def _one_of(*names: str) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, str) and v in names


def _several(inside: Callable[[Any], bool], *counts: int) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, tuple | list) and (not counts or len(v) in counts) and all(map(inside, v))


def _either(*checks: Callable[[Any], bool]) -> Callable[[Any], bool]:
    def check_any(v: Any) -> bool:
        for check in checks:  # noqa: SIM110 (`any` would make a generator for each of a million labels)
            if check(v):
                return True
        return False

    return check_any


def _statistic(minimum: float, maximum: float) -> Callable[[Any], bool]:
    inside = _within(minimum, maximum)
    return lambda v: inside(v) or (len(v) > 0 and all(map(inside, v)) if isinstance(v, tuple | list) else False)


def _paths(v: Any) -> bool:
    return _text(v) or _several(_text)(v)


def _texts(v: Any) -> bool:
    return isinstance(v, Mapping) and all(_text(x) or type(x) is int for x in v.values())


_SIZE = _several(_whole(1, MAX_NUMBER), 3)
_PAIR = _several(_whole(1, MAX_NUMBER), 1, 2)
_SIZE_SAID = f"[channels, height, width], whole numbers from 1 to {MAX_NUMBER:,}"
_CROP_SAID = f"a number above 0 and at most {_MAX_CROP}"
_COUNT_SAID = f"a whole number from 0 to {_MAX_COUNT:,}"
_LABEL = _either(_text, _whole(-(2**31)))
#: Field of timm's PretrainedCfg -> (its check, what it must be).
_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "input_size": (_SIZE, _SIZE_SAID),
    "test_input_size": (_SIZE, _SIZE_SAID),
    "min_input_size": (_SIZE, _SIZE_SAID),
    "fixed_input_size": (lambda v: isinstance(v, bool), "true or false"),
    "custom_load": (lambda v: isinstance(v, bool), "true or false"),
    "interpolation": (_one_of(*INTERPOLATIONS), f"one of {', '.join(INTERPOLATIONS)}"),
    "crop_mode": (_one_of(*CROP_MODES), f"one of {', '.join(CROP_MODES)}"),
    "crop_pct": (lambda v: _number(v) and 0 < v <= _MAX_CROP, _CROP_SAID),
    "test_crop_pct": (lambda v: _number(v) and 0 < v <= _MAX_CROP, _CROP_SAID),
    "mean": (
        _statistic(-MAX_STATISTIC, MAX_STATISTIC),
        f"a list of numbers, one a channel, from -{MAX_STATISTIC:,.0f} to {MAX_STATISTIC:,.0f}",
    ),
    "std": (
        _statistic(MIN_STD, MAX_STATISTIC),
        f"a list of numbers, one a channel, above 0 (from {MIN_STD:g} to {MAX_STATISTIC:,.0f})",
    ),
    "num_classes": (_whole(0), _COUNT_SAID),
    "label_offset": (_whole(0), _COUNT_SAID),
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


def ordered_labels(labels: Mapping[Any, Any], classes: int | None = None, offset: int = 0) -> tuple[Any, ...] | None:
    """Labels that are written as class number -> name, as timm also does, in the order of the classes.

    Args:
        labels: their keys are whole numbers or, in JSON, the digits of some.
        classes: how many there are, where it is known; those that have no name then get their number.
        offset: classes before the first label; labels that leave out just these are taken as they are.

    Returns:
        One name a class, or None when the keys are not class numbers below `classes`.
    """
    named: dict[int, Any] = {}
    for key, name in labels.items():
        if isinstance(key, str) and key.isascii() and key.isdigit() and len(key) < 10:
            key = int(key)
        if type(key) is not int or key < 0 or key in named:
            return None
        named[key] = name
    gapless = len(named) == max(named, default=-1) + 1
    if gapless and (classes is None or len(named) in (classes, classes - offset)):
        return tuple(named[k] for k in sorted(named))
    if classes is None:
        return None
    if classes > _MAX_LABELS or max(named, default=-1) >= classes:
        return None
    return tuple(named.get(k, str(k)) for k in range(classes))


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
        "instance_shape": (list,),
        "feature_names": (list,),
    }
    for key, allowed in kinds.items():
        value = block.get(key)
        if value is not None and (not isinstance(value, allowed) or isinstance(value, bool)):
            raise ConfigError(f"{where}: zoo.{key} must be a {allowed[0].__name__}, got {shorten(value)}")
    shape = block.get("instance_shape")
    if shape is not None and not (shape and all(n is None or (type(n) is int and n > 0) for n in shape)):
        raise ConfigError(f"{where}: zoo.instance_shape must be a list of sizes, got {shorten(shape)}")
    names = block.get("feature_names") or []
    if not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{where}: zoo.feature_names must be a list of texts, got {shorten(names)}")
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
