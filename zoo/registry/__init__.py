"""The catalogue and its look-ups: what exists under which name. Imports no torch, opens no connection."""

from __future__ import annotations

from collections.abc import Iterable

from zoo.registry.entry import KINDS, Entry, Family, WeightsEntry, load_target
from zoo.registry.registry import (
    Registry,
    default_registry,
    register_model,
    register_module,
    select,
    split_model_name_tag,
)

__all__ = [
    "KINDS",
    "Entry",
    "Family",
    "Registry",
    "WeightsEntry",
    "default_registry",
    "is_model",
    "list_models",
    "list_modules",
    "list_pretrained",
    "list_tags",
    "load_target",
    "model_entry",
    "module_entry",
    "module_info",
    "register_model",
    "register_module",
    "select",
    "split_model_name_tag",
    "weights_entry",
]


def list_models(
    filter: str | Iterable[str] = "",
    *,
    source: str = "zoo",
    family: str = "",
    uses: str = "",
    pretrained: bool = False,
    exclude_filters: str | Iterable[str] = "",
    include_tags: bool | None = None,
) -> list[str]:
    """Names of models, in natural order (`resnet18` before `resnet101`).

    Args:
        filter: `fnmatch` pattern or several; one without a tag also matches the names that have one.
        source: `"zoo"` for our own, `"timm"` for timm's, `"all"` for both (the last two import timm).
        family: only models of this family of ours, those of further papers that are a part of it too.
        uses: only models of ours built with this module, for instance `"mlp/kan"`.
        pretrained: only names with weights.
        exclude_filters: patterns to leave out.
        include_tags: show `arch.tag`; default: when `pretrained`.

    Raises:
        ValueError: unknown `source`.
        UnknownModelError: unknown `family`, with the nearest names.
    """
    if source not in ("zoo", "timm", "all"):
        raise ValueError(f"source must be 'zoo', 'timm' or 'all', got {source!r}")
    ours = default_registry().list_models(
        filter,
        family=family,
        uses=uses,
        pretrained=pretrained,
        exclude_filters=exclude_filters,
        include_tags=include_tags,
    )
    if source == "zoo":
        return ours
    import timm

    theirs = timm.list_models(
        filter or "", pretrained=pretrained, exclude_filters=exclude_filters or "", include_tags=include_tags
    )
    theirs = [n for n in theirs if not is_model(n)]
    return theirs if source == "timm" else select([*ours, *theirs], "", "")


def list_pretrained(
    filter: str | Iterable[str] = "", *, exclude_filters: str | Iterable[str] = "", source: str = "zoo"
) -> list[str]:
    """Names with tags (`arch.tag`) of the models that have weights."""
    return list_models(filter, pretrained=True, include_tags=True, exclude_filters=exclude_filters, source=source)


def list_modules(filter: str | Iterable[str] = "", *, kind: str = "") -> list[str]:
    """Names (`kind/name`) of the modules that can be put into a backbone.

    Args:
        filter: `fnmatch` pattern or several, against `kind/name` and against the bare name.
        kind: one of `zoo.registry.KINDS`.

    Raises:
        UnknownModuleError: unknown kind, with the nearest ones.
    """
    return default_registry().list_modules(filter, kind=kind)


def is_model(name: str) -> bool:
    """Whether `name` is one of our models (a tag is ignored)."""
    return default_registry().is_model(name)


def model_entry(name: str, other_names: Iterable[str] = ()) -> Entry:
    """The catalogue entry of a model; raises `UnknownModelError` with near names."""
    return default_registry().model(name, other_names)


def module_entry(name: str, kind: str | None = None) -> Entry:
    """The catalogue entry of a module; raises `UnknownModuleError` with near names."""
    return default_registry().module(name, kind)


def module_info(name: str) -> dict[str, object]:
    """What is known of a module: its facts, its kind's contract, its signature and options. Imports the module.

    `contract` says in a line each how every module of the kind is built and called; `options` are the keywords of
    this one with their values by default (sizes, device and dtype left out).

    Raises:
        UnknownModuleError: with the nearest names.
    """
    import inspect

    from zoo.registry.contracts import CONTRACTS, OPEN

    entry = module_entry(name)
    contract = CONTRACTS.get(entry.kind, OPEN)
    signature = inspect.signature(entry.load())
    defaults = {k: p.default for k, p in signature.parameters.items() if p.default is not inspect.Parameter.empty}
    defaults |= entry.args
    return {
        "name": entry.name,
        "kind": entry.kind,
        "summary": entry.summary,
        "layout": entry.layout,
        "contract": {"constructor": contract.constructor, "call": contract.call},
        "options": {k: v for k, v in defaults.items() if k not in (*contract.sizes, "device", "dtype")},
        "signature": str(signature),
        "defaults": defaults,
        "paper": entry.family.paper,
        "arxiv": entry.family.arxiv,
        "year": entry.family.year,
        "source": entry.source,
    }


def list_tags(arch: str) -> list[str]:
    """Tags of an architecture's checkpoints, the default first."""
    return default_registry().tags(arch)


def weights_entry(name: str) -> WeightsEntry | None:
    """The checkpoint named `arch.tag`, or the default one of `arch`; `None` if the architecture has none.

    Raises:
        UnknownModelError: unknown tag, listing those that exist.
    """
    return default_registry().weights(name)
