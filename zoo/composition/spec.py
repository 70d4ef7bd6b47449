"""The description of a composed model: a base by name, and what takes the place of its parts. Values are JSON."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from torch import nn

from zoo.composition.registered import entries_of
from zoo.composition.where import canonical_where
from zoo.errors import ConfigError, UnknownModuleError
from zoo.naming import check_keywords, did_you_mean, near_names
from zoo.registry import Entry, module_entry

#: Parts of a backbone that can be replaced, in the order in which they are.
SLOTS = ("mlp", "mixer", "act", "pool", "head")
#: Kinds of modules that fit a slot beside the kind of its own name.
_ALSO_FITS = {"head": ("circuit",), "mlp": ("circuit",)}
INITS = ("match", "own")
# What a backbone decides of a module, never its user.
_OF_THE_BACKBONE = ("in_features", "out_features", "dim", "device", "dtype")
#: Keywords for timm's builder and for where a model is made; no part of a spec.
BUILD_OPTIONS = ("features_only", "out_indices", "feature_cls", "output_fmt", "device", "dtype")


@dataclass(frozen=True)
class Choice:
    """What takes the place of one kind of part.

    Attributes:
        slot: one of `SLOTS`.
        module: registered name (`"kind/name"`), or a class or callable of the user's.
        options: keywords of its constructor.
        where: canonical `where`.
        init: `"match"`, `"own"` or, to leave it to the composer, `None`. Another value is the module's own `init`, one
            of its options.
        places: path -> options that the module there has otherwise, after it was pruned, say.
    """

    slot: str
    module: str | Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    where: str | list[int] = "all"
    init: str | None = None
    places: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, slot: str, value: Any) -> Choice:
        """Read a user's value: a name, `{"type": …, "where": …, "init": …, **options}`, or a class.

        Raises:
            UnknownModuleError: no such module, with near names and the kinds that have it.
            TypeError, ValueError: not one of those forms, an option that the module does not take, a wrong `where`.
        """
        if isinstance(value, Choice):
            return replace(value, slot=slot)
        options: dict[str, Any] = {}
        if isinstance(value, Mapping):
            options = dict(value)
            if "type" not in options:
                near = near_names("type", [k for k in options if isinstance(k, str)], 1)
                hint = f"; did you mean 'type' where you wrote {near[0]!r}?" if near else ""
                raise ValueError(f"{slot}={shown(value)} has no 'type', the name of the module{hint}")
            value = options.pop("type")
        where = canonical_where(options.pop("where", "all"))
        begins = options.get("init")  # the composer's two words, or else the module's own option of that name
        ours = begins is None or (isinstance(begins, str) and begins in INITS)
        init = options.pop("init", None) if ours else None
        places = options.pop("places", {})
        if not isinstance(places, Mapping) or not all(isinstance(own, Mapping) for own in places.values()):
            raise TypeError(f"{slot}.places must map paths to options, got {shown(places)}")
        module = _module(slot, value)
        refuse_placement((*options, *(n for own in places.values() for n in own)), _called(module))
        options = {k: as_json(v, f"{slot}.{k}") for k, v in sorted(options.items())}
        choice = cls(slot, module, options, where, init, as_json(places, f"{slot}.places"))
        if "init" in choice.options and "init" not in parameters_of(choice.target):
            raise ValueError(f"init must be 'match' or 'own', got {begins!r}; {choice.name} has no init of its own")
        named = [*choice.options, *(name for own in choice.places.values() for name in own)]
        check_options(choice.target, named, choice.name, ("hidden_ratio",) if slot == "mlp" else ())
        return choice

    def options_at(self, path: str) -> Mapping[str, Any]:
        """The options of the module at a path."""
        return _updated(self.options, self.places.get(path, {}))

    def changed_to(self, now: Mapping[str, Mapping[str, Any]]) -> Choice:
        """The choice whose modules have other options now.

        Args:
            now: path -> options that changed there, for every place.
        """
        first = next(iter(now.values()), {})
        shared = {k: v for k, v in first.items() if all(k in own and own[k] == v for own in now.values())}
        places = {}
        for path in dict.fromkeys((*self.places, *now)):
            own = {**self.places.get(path, {}), **now.get(path, {})}
            if own := {name: value for name, value in own.items() if name not in shared}:
                places[path] = own
        return replace(self, options=_updated(self.options, shared), places=places)

    @property
    def entry(self) -> Entry | None:
        """Row of the catalogue, for a registered module."""
        return module_entry(self.module) if isinstance(self.module, str) else None

    @property
    def target(self) -> Callable[..., Any]:
        """The class or callable."""
        entry = self.entry
        return entry.load() if entry is not None else self.module  # type: ignore[return-value]

    @property
    def name(self) -> str:
        """For messages: the registered name, or that of the class."""
        return _called(self.module)

    def to_dict(self) -> dict[str, Any]:
        """The one form of it that goes into a spec."""
        name = self.module
        if not isinstance(name, str):
            name = _module(self.slot, name)  # a class may have been registered since
        if isinstance(name, str) and name.partition("/")[0] == self.slot:
            name = name.partition("/")[2]
        content: dict[str, Any] = {"type": name, **self.options}
        if self.where != "all":
            content["where"] = self.where
        if self.init is not None:
            content["init"] = self.init
        if self.places:
            content["places"] = {path: dict(own) for path, own in self.places.items()}
        return content


def _updated(options: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Options with new values; a width takes the place of a ratio."""
    dropped = ("hidden_ratio",) if "hidden_features" in new else ()
    kept = {name: value for name, value in options.items() if name not in dropped}
    return dict(sorted({**kept, **new}.items()))


def _module(slot: str, value: Any) -> str | Callable[..., Any]:
    if isinstance(value, str):
        kinds = (slot, *_ALSO_FITS.get(slot, ()))
        kind, slash, _ = value.partition("/")
        if slash and kind not in kinds:
            module_entry(value)  # an unknown one is said to be unknown
            raise UnknownModuleError(
                f"{value!r} is of kind {kind!r} and cannot go in the place of a {slot}; list those that can with "
                f"zoo.list_modules(kind={slot!r})"
            )
        return module_entry(value, None if slash else slot).name
    if isinstance(value, nn.Module):
        raise TypeError(
            f"{slot} must be a class, not a module that is built already: every place gets one of its own sizes; "
            f"got {value!r}"
        )
    if inspect.isclass(value) and not issubclass(value, nn.Module):
        raise TypeError(f"{slot} must be a class of torch.nn.Module, got {value!r}")
    if callable(value):
        # A registered class is known by its name, where that name fits and means no more than the class.
        kinds = (slot, *_ALSO_FITS.get(slot, ()))
        return next((e.name for e in entries_of(value) if e.kind in kinds and not e.args), value)
    raise TypeError(
        f"{slot} must be the name of a module, {{'type': name, **options}}, or a class, got {shown(value)}; names: "
        f"zoo.list_modules(kind={slot!r})"
    )


def _called(module: str | Callable[..., Any]) -> str:
    return module if isinstance(module, str) else getattr(module, "__name__", repr(module))


def refuse_placement(options: Iterable[str], name: str) -> None:
    """Refuse options that say where a module is, or of which type: in a model all parts are alike.

    Raises:
        ValueError: with those, and where they go.
    """
    if clash := sorted({"device", "dtype"}.intersection(options)):
        given = ", ".join(f"{option}=..." for option in clash)
        raise ValueError(
            f"{', '.join(clash)} of {name} comes from the backbone and cannot be an option: create_model({given}) is "
            "of the whole model"
        )


def check_options(target: Callable[..., Any], options: Iterable[str], name: str, more: tuple[str, ...] = ()) -> None:
    """Refuse options that the constructor does not take, but for `more`, which are the composer's own.

    A class may have `zoo_other_words`: what its options are called elsewhere, with its own name for each.

    Raises:
        TypeError: with near and accepted names.
    """
    parameters = parameters_of(target)
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        of_the_user = [n for n in parameters if n not in _OF_THE_BACKBONE]
        unknown = [key for key in options if key not in parameters]
        words: Mapping[str, str] = getattr(target, "zoo_other_words", {})
        for key in unknown:
            if key in words:
                raise TypeError(f"{name} takes no argument {key!r}; did you mean {words[key]!r}?")
        check_keywords(unknown, [*of_the_user, *more], name)


def parameters_of(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Parameters of a constructor; `nn.Module`'s own `__init__` takes none, whatever its signature says."""
    if inspect.isclass(target) and target.__init__ is nn.Module.__init__:
        return {}
    return inspect.signature(target).parameters


def resolve_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options for a constructor: lists become tuples, an object with a `type` a factory of that registered module."""

    def resolve(value: Any) -> Any:
        if isinstance(value, list):
            return tuple(resolve(v) for v in value)
        if isinstance(value, Mapping) and "type" in value:
            entry = module_entry(value["type"])
            rest = {k: v for k, v in value.items() if k != "type"}
            return partial(entry.load(), **{**entry.args, **resolve_options(rest)})
        return value

    return {key: resolve(value) for key, value in options.items()}


def as_json(value: Any, name: str) -> Any:
    """A value as JSON will give it back, or what its `to_dict` gives.

    Classes and callables pass, and are refused where one publishes.
    """
    if hasattr(value, "to_dict") and not isinstance(value, type):
        value = value.to_dict()
    if isinstance(value, tuple | list):
        return [as_json(v, name) for v in value]
    if isinstance(value, Mapping):
        return {str(k): as_json(v, f"{name}.{k}") for k, v in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value!r}")
    if not (value is None or isinstance(value, str | int | float) or callable(value)):
        raise TypeError(f"{name} must be a JSON value (or a class), got {shown(value)}")
    return value


def shown(value: Any) -> str:
    """A value for messages: of a tensor or an array its type and shape, however deep it lies, of others the `repr`."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key!r}: {shown(v)}' for key, v in value.items())}}}"
    if isinstance(value, list | tuple):
        inside = ", ".join(map(shown, value))
        return f"[{inside}]" if isinstance(value, list) else f"({inside}{',' * (len(value) == 1)})"
    shape = getattr(value, "shape", ())
    return f"{type(value).__name__} of shape {tuple(shape)}" if shape and isinstance(shape, tuple) else repr(value)


@dataclass(frozen=True)
class Spec:
    """A composed model in words.

    Attributes:
        base: architecture of ours or timm's, by name.
        choices: slot -> what takes its place.
        arguments: further keywords of the base's constructor.
    """

    base: str
    choices: Mapping[str, Choice] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Spec:
        """Read a mapping such as `{"base": "resnet50", "head": "kan", "num_classes": 9}`.

        Raises:
            ConfigError: no base.
            and as `Choice.of`.
        """
        if not isinstance(content, Mapping):
            raise TypeError(f"a spec is a mapping such as {{'base': 'resnet50', 'head': 'kan'}}, got {shown(content)}")
        base = content.get("base")
        if not isinstance(base, str) or not base:
            given = {k: v for k, v in content.items() if v is not None}
            hint = did_you_mean("base", given.keys() - {"base"}, 1)
            raise ConfigError(f"a spec needs a 'base', the name of a model; got {shown(given)}{hint}")
        choices = {slot: Choice.of(slot, content[slot]) for slot in SLOTS if content.get(slot) is not None}
        rest = {k: as_json(v, k) for k, v in content.items() if k not in ("base", *SLOTS) and v is not None}
        return cls(base, choices, rest)

    def to_dict(self) -> dict[str, Any]:
        """Its canonical form: equal specs give equal mappings, in one order."""
        parts = {slot: self.choices[slot].to_dict() for slot in SLOTS if slot in self.choices}
        return {"base": self.base, **parts, **dict(sorted(self.arguments.items()))}

    def over(self, inner: Spec) -> Spec:
        """This spec, whose base is what `inner` describes, as one spec.

        Raises:
            ConfigError: both replace different places of the same kind.
        """
        for slot in self.choices.keys() & inner.choices.keys():
            mine, theirs = self.choices[slot], inner.choices[slot]
            if mine.where not in ("all", theirs.where):
                raise ConfigError(
                    f"{self.base!r} has {slot}={theirs.to_dict()!r} already, and {mine.to_dict()!r} is for other "
                    f"places: give where={theirs.where!r}, or compose {inner.base!r} anew"
                )
        return Spec(inner.base, {**inner.choices, **self.choices}, {**inner.arguments, **self.arguments})
