"""Compositions by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import timm

from zoo.composition.composite import TARGET, flat_spec
from zoo.naming import known_keywords
from zoo.registry import Entry, Family, default_registry, is_model, model_entry

_FAMILY = Family(name="user", title="Registered by the user")


@known_keywords
def register_spec(
    name: str,
    spec: Mapping[str, Any],
    *,
    summary: str = "",
    aliases: Iterable[str] = (),
    override: bool = False,
) -> None:
    """Register a composition under a name: then it is a model like any other, listed, created and published by it.

        zoo.register_spec("vit_s_kan", {"base": "vit_small_patch16_224", "mlp": {"type": "kan", "where": "last:4"}})
        zoo.create_model("vit_s_kan", num_classes=9, pretrained=True)  # the base's weights, new parts

    Args:
        name: how it is called from now on, here and in timm.
        spec: `base`, the parts replaced and further keywords; see `zoo.compose`.
        summary: one line for listings.
        aliases: further names.
        override: replace a model of that name.

    Raises:
        RegistrationError: the name is taken.
        UnknownModelError: nothing is called what the base is called; near names are in the message.
        UnknownModuleError, TypeError, ValueError, ConfigError: as `zoo.compose`.
    """
    if not isinstance(name, str) or not name or not all(c.isalnum() or c in "_-" for c in name):
        raise ValueError(f"a model's name is letters, digits, '_' and '-', got {name!r}")
    base = spec.get("base") if isinstance(spec, Mapping) else None
    if isinstance(base, str) and not is_model(base) and not timm.is_model(base):
        model_entry(base, timm.list_models())  # raises, with near names
    flat = flat_spec(spec)
    names = (choice.module for choice in flat.choices.values())
    entry = Entry(
        name,
        "model",
        TARGET,
        _FAMILY,
        summary=summary or f"{flat.base} with another {', '.join(flat.choices)}",
        args=flat.to_dict(),
        aliases=tuple(aliases),
        uses=tuple(n for n in names if isinstance(n, str)),
        source="user",
    )
    default_registry().add(entry, override=override)
