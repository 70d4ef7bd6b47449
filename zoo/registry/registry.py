"""The registry: names to entries. Knows no torch and no network."""

from __future__ import annotations

import fnmatch
import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from zoo.errors import RegistrationError, UnknownModelError, UnknownModuleError
from zoo.naming import did_you_mean, natural_key, near_names
from zoo.registry.catalogue import read_catalogue
from zoo.registry.entry import KINDS, Entry, Family, WeightsEntry

_USER_FAMILY = Family(name="user", title="Registered by the user")
#: Layouts that a module can be registered with; "" leaves it to the class and the kind.
_LAYOUTS = ("", "NLC", "NHWC", "NCHW", "windows")


def split_model_name_tag(name: str, no_tag: str = "") -> tuple[str, str]:
    """`"arch.tag"` to `("arch", "tag")`; without a tag the second is `no_tag` (timm's function of that name)."""
    arch, _, tag = name.partition(".")
    return arch, tag or no_tag


class Registry:
    """Entries by name: those of the catalogue, of plug-ins (entry points), and of the running program.

    Args:
        entries: models and modules to begin with.
        weights: their checkpoints.
        plugins: entry points of the groups `zoo.models` and `zoo.modules`; each is loaded when first built.
    """

    def __init__(
        self, entries: Iterable[Entry] = (), weights: Iterable[WeightsEntry] = (), plugins: Iterable[EntryPoint] = ()
    ):
        self._entries: dict[str, Entry] = {}
        self._aliases: dict[str, str] = {}
        self._weights: dict[str, dict[str, WeightsEntry]] = {}
        self._listeners: list[Callable[[Entry, bool], None]] = []
        for entry in entries:
            self.add(entry)
        for row in weights:
            self._weights.setdefault(row.arch, {})[row.tag] = row
        for point in plugins:
            self._add_plugin(point)

    # --- adding ---------------------------------------------------------------------------------------------------

    def add(self, entry: Entry, *, override: bool = False) -> None:
        """Register `entry`.

        Raises:
            RegistrationError: the name or an alias is taken and `override` is false, or the kind is unknown.
        """
        if entry.kind != "model" and entry.kind not in KINDS:
            hint = did_you_mean(entry.kind, KINDS)
            raise RegistrationError(f"unknown kind {entry.kind!r} for {entry.name!r}{hint or '.'} Kinds: {KINDS}")
        for name in (entry.name, *entry.aliases):
            if not override and (name in self._entries or name in self._aliases):
                raise RegistrationError(f"{name!r} is already registered; pass override=True to replace it")
        for listener in self._listeners:  # first: what a listener refuses is not registered
            listener(entry, override)
        self._aliases.pop(entry.name, None)
        self._entries[entry.name] = entry
        for alias in entry.aliases:
            self._aliases[alias] = entry.name

    def _add_plugin(self, point: EntryPoint) -> None:
        distribution = point.dist.name if point.dist else "unknown"
        kind = "model" if point.group == "zoo.models" else point.name.partition("/")[0]

        def load() -> Any:
            try:
                return point.load()
            except Exception as error:
                raise RegistrationError(f"plug-in {point.name!r} of {distribution} does not load: {error}") from error

        entry = Entry(
            point.name,
            kind,
            point.value,
            Family(name=distribution, title=distribution),
            source=f"plugin:{distribution}",
            _loader=load,
        )
        try:
            self.add(entry)
        except RegistrationError as error:
            warnings.warn(f"plug-in {point.name!r} of {distribution} is skipped: {error}", stacklevel=2)

    def add_listener(self, listener: Callable[[Entry, bool], None]) -> None:
        """Call `listener(entry, override)` before every registration from now on; its error refuses the entry."""
        self._listeners.append(listener)

    # --- looking up -----------------------------------------------------------------------------------------------

    def _find(self, name: str) -> Entry | None:
        return self._entries.get(self._aliases.get(name, name))

    @property
    def models(self) -> list[Entry]:
        """All model entries."""
        return [e for e in self._entries.values() if e.kind == "model"]

    @property
    def modules(self) -> list[Entry]:
        """All module entries."""
        return [e for e in self._entries.values() if e.kind != "model"]

    def names(self, *, models: bool = True) -> list[str]:
        """Names and aliases of all models (or of all modules)."""
        return [n for e in (self.models if models else self.modules) for n in (e.name, *e.aliases)]

    def is_model(self, name: str) -> bool:
        """Whether `name` (a tag is ignored) is one of our models."""
        entry = self._find(split_model_name_tag(name)[0])
        return entry is not None and entry.kind == "model"

    def model(self, name: str, other_names: Iterable[str] = ()) -> Entry:
        """The entry of a model; a tag in `name` is ignored.

        Args:
            name: `"arch"` or `"arch.tag"`, an alias counts.
            other_names: further names (timm's) to draw suggestions from.

        Raises:
            UnknownModelError: with the nearest names, or the prefix to write for a repository or a folder.
        """
        arch = split_model_name_tag(name)[0]
        entry = self._find(arch)
        if entry is not None and entry.kind == "model":
            return entry
        if name.partition(":")[0].lower() in ("hf-hub", "hf_hub", "local-dir"):
            raise UnknownModelError(f"{name!r} is a place of weights, not a registered name")
        if "/" in name or "\\" in name:
            raise UnknownModelError(
                f"{name!r} looks like a repository or a folder: write 'hf-hub:{name}' for a repository on the "
                f"Hugging Face Hub, 'local-dir:{name}' for a folder"
            )
        hint = did_you_mean(arch, [*self.names(), *other_names])
        raise UnknownModelError(f"unknown model {name!r}{hint or '; zoo.list_models() names all'}")

    def module(self, name: str, kind: str | None = None) -> Entry:
        """The entry of a module, by `"kind/name"`, or by `name` and `kind`.

        Raises:
            UnknownModuleError: with the nearest names within the kind, and the other kinds that have the name.
        """
        full = name if "/" in name or kind is None else f"{kind}/{name}"
        entry = self._find(full)
        if entry is not None and entry.kind != "model" and kind in (None, entry.kind):
            return entry
        wanted_kind, _, short = full.rpartition("/")
        if wanted_kind and wanted_kind not in KINDS:
            hint = did_you_mean(wanted_kind, KINDS)
            raise UnknownModuleError(f"unknown kind {wanted_kind!r}{hint or '.'} Kinds: {', '.join(KINDS)}")
        same = [e.name for e in self.modules if e.kind == wanted_kind]
        elsewhere = [e.name for e in self.modules if e.short_name == short and e.kind != wanted_kind]
        if not wanted_kind:  # a name alone: its kinds, or those of the names that are near
            near = near_names(short, [e.short_name for e in self.modules])
            found = elsewhere or [e.name for n in near for e in self.modules if e.short_name == n]
            hint = f"; did you mean {', '.join(map(repr, found))}?" if found else ""
            raise UnknownModuleError(f"unknown module {full!r}{hint or '; zoo.list_modules() names all'}")
        hint = did_you_mean(full, same)
        if elsewhere:
            hint += f" (it exists as {', '.join(repr(n) for n in elsewhere)})"
        raise UnknownModuleError(f"unknown module {full!r}{hint or '; zoo.list_modules() names all'}")

    # --- checkpoints ----------------------------------------------------------------------------------------------

    def tags(self, arch: str) -> list[str]:
        """Tags of an architecture's checkpoints, the default first."""
        rows = self._weights.get(self._aliases.get(arch, arch), {})
        return sorted(rows, key=lambda tag: (not rows[tag].default, natural_key(tag)))

    def weights(self, name: str) -> WeightsEntry | None:
        """The checkpoint that `"arch.tag"` names, or the default one of `"arch"`; `None` if there is none at all.

        Raises:
            UnknownModelError: a tag that the architecture does not have, listing those it has.
        """
        arch, tag = split_model_name_tag(name)
        arch = self._aliases.get(arch, arch)
        tags = self.tags(arch)
        if not tag:
            return self._weights[arch][tags[0]] if tags else None
        if tag not in tags:
            have = ", ".join(f"{t!r}" + (" (default)" if i == 0 else "") for i, t in enumerate(tags)) or "none"
            raise UnknownModelError(
                f"{arch!r} has no checkpoint tagged {tag!r}{did_you_mean(tag, tags) or '.'} Tags: {have}"
            )
        return self._weights[arch][tag]

    # --- listing --------------------------------------------------------------------------------------------------

    def list_models(
        self,
        filter: str | Iterable[str] = "",
        *,
        family: str = "",
        uses: str = "",
        pretrained: bool = False,
        exclude_filters: str | Iterable[str] = "",
        include_tags: bool | None = None,
    ) -> list[str]:
        """Names of our models in natural order; see `zoo.list_models`."""
        include_tags = pretrained if include_tags is None else include_tags
        if family and family not in {e.family.name for e in self.models}:
            families = sorted({e.family.name for e in self.models})
            raise UnknownModelError(
                f"unknown family {family!r}{did_you_mean(family, families) or '.'} Families: {', '.join(families)}"
            )
        names: list[str] = []
        for entry in self.models:
            of_family = not family or family in (entry.family.name, entry.family.part_of)
            if entry.hidden or not of_family or (uses and uses not in entry.uses):
                continue
            tags = self.tags(entry.name)
            if pretrained and not tags:
                continue
            if include_tags and tags:
                names += [f"{entry.name}.{tag}" for tag in tags]
            else:
                names += [entry.name, *entry.aliases]
        return select(names, filter, exclude_filters)

    def list_modules(self, filter: str | Iterable[str] = "", *, kind: str = "") -> list[str]:
        """Names (`kind/name`) of the modules in natural order; see `zoo.list_modules`."""
        if kind and kind not in KINDS:
            raise UnknownModuleError(
                f"unknown kind {kind!r}{did_you_mean(kind, KINDS) or '.'} Kinds: {', '.join(KINDS)}"
            )
        entries = [e for e in self.modules if not kind or e.kind == kind]
        patterns = _patterns(filter)
        chosen = [
            e.name
            for e in entries
            if not patterns or any(fnmatch.fnmatch(n, p) for p in patterns for n in (e.name, e.short_name))
        ]
        return sorted(chosen, key=natural_key)


def _patterns(filter: str | Iterable[str]) -> list[str]:
    if not filter:
        return []
    patterns = [filter] if isinstance(filter, str) else filter
    if not isinstance(patterns, Iterable) or not all(isinstance(p, str) for p in patterns):
        raise TypeError(f"a filter is a wildcard pattern such as 'medvit2*', or several, got {filter!r}")
    return list(patterns)


def select(names: Iterable[str], filter: str | Iterable[str], exclude: str | Iterable[str]) -> list[str]:
    """Names that match any pattern of `filter` and none of `exclude`, in natural order.

    Patterns are those of `fnmatch`; one without a tag also matches the names that have one, as in timm.
    """

    def matches(name: str, patterns: list[str]) -> bool:
        for pattern in patterns:
            tagged = "." in pattern
            if fnmatch.fnmatch(name, pattern) or (not tagged and fnmatch.fnmatch(name, f"{pattern}.*")):
                return True
        return False

    wanted, unwanted = _patterns(filter), _patterns(exclude)
    chosen = {n for n in names if (not wanted or matches(n, wanted)) and not matches(n, unwanted)}
    return sorted(chosen, key=natural_key)


class _Default:
    """Holds the one registry of the process, read from disk when first asked for."""

    @cached_property
    def registry(self) -> Registry:
        entries, weights = read_catalogue()
        installed = entry_points()  # of every distribution: asked for once, as each is a file
        plugins = [*installed.select(group="zoo.models"), *installed.select(group="zoo.modules")]
        return Registry(entries, weights, plugins)


_default = _Default()


def default_registry() -> Registry:
    """The registry of this process: catalogue and plug-ins, plus what the program registered."""
    return _default.registry


def register_model(
    target: Callable[..., Any] | None = None, *, name: str | None = None, override: bool = False, **facts: Any
) -> Any:
    """Register a model of one's own: a decorator for a timm-style function or a model class.

    Args:
        target: a function `fn(pretrained=False, **kwargs) -> nn.Module`, or an `nn.Module` class.
        name: registered name, of letters, digits, _ and -; default the function's own.
        override: replace an entry of that name.
        **facts: further fields of the entry (`summary`, `args`, `cfg`, `input_size`, `aliases`, ...).

    Returns:
        The target unchanged, so that it works as a plain decorator.

    Raises:
        RegistrationError: the name is taken or has other letters, or the target cannot be called.
    """

    def decorate(fn: Callable[..., Any]) -> Callable[..., Any]:
        own = _checked_name("model", fn, name)
        summary = facts.pop("summary", (fn.__doc__ or "").strip().partition("\n")[0])
        entry = Entry(own, "model", fn, _USER_FAMILY, summary=summary, source="user")
        default_registry().add(replace(entry, **facts), override=override)
        return fn

    return decorate if target is None else decorate(target)


def register_module(kind: str, name: str | None = None, *, override: bool = False, **facts: Any) -> Any:
    """Register a module of one's own under `kind/name`: a decorator for its class.

    Args:
        kind: one of `zoo.registry.KINDS`; a promise about constructor and call.
        name: short name, of letters, digits, _ and -; default the class name in lower case.
        override: replace an entry of that name.
        **facts: further fields of the entry (`summary`, `layout`, `aliases`, ...).

    Raises:
        RegistrationError: unknown kind or layout, the name is taken or has other letters, or the target is neither a
            class nor a function.
    """

    def decorate(cls: Callable[..., Any]) -> Callable[..., Any]:
        own = _checked_name("module", cls, name)
        short = own if name else own.lower()
        if (layout := facts.get("layout", "")) not in _LAYOUTS:
            hint = did_you_mean(str(layout), _LAYOUTS[1:]) or "."
            raise RegistrationError(
                f"unknown layout {layout!r} for '{kind}/{short}'{hint} Layouts: {', '.join(map(repr, _LAYOUTS))}"
            )
        summary = facts.pop("summary", (cls.__doc__ or "").strip().partition("\n")[0])
        entry = Entry(f"{kind}/{short}", kind, cls, _USER_FAMILY, summary=summary, source="user")
        default_registry().add(replace(entry, **facts), override=override)
        return cls

    return decorate


def _checked_name(what: str, target: Any, name: str | None) -> str:
    """The name to register `target` by: the one given, else its own.

    Raises:
        RegistrationError: the target cannot be called, or the name is missing or has other letters.
    """
    if not callable(target):
        wanted = "a function or a class" if what == "model" else "a class, or a function that builds the module"
        raise RegistrationError(f"a {what} is registered by {wanted}, got {target!r}, a {type(target).__name__}")
    own = name or getattr(target, "__name__", "")
    if own in ("", "<lambda>"):
        raise RegistrationError(f"{target!r} has no name of its own: register the {what} with name='…'")
    if not isinstance(own, str) or not re.fullmatch(r"[\w-]+", own):
        raise RegistrationError(f"the name of a {what} is made of letters, digits, '_' and '-', got {own!r}")
    return own
