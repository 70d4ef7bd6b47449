"""Puts the chosen modules into a model: find, check on a twin without memory, replace, and verify."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from zoo.composition.acts import find_acts, fit_act
from zoo.composition.composed import (
    Change,
    Composed,
    Composition,
    as_composed,
    describe_module,
    narrow,
    rebuild_heads,
    widen,
)
from zoo.composition.heads import find_heads, fit_head
from zoo.composition.match import Matcher
from zoo.composition.mixers import find_mixers, fit_mixer, has_position_bias, leaves_out_prefix
from zoo.composition.mlps import find_mlps, fit_mlp, mlp_slot
from zoo.composition.pools import TOKEN_POOL, TokenPool, find_pools, fit_pool
from zoo.composition.probe import Probe, probe
from zoo.composition.slots import Places, Slot, holds_values, make, replace_module
from zoo.composition.spec import SLOTS, Choice, Spec
from zoo.composition.specialise import specialise
from zoo.composition.where import is_pattern, select
from zoo.errors import UnsupportedSurgery

_FINDERS: Mapping[str, Callable[[nn.Module, Probe], Places]] = {
    "head": find_heads,
    "mlp": find_mlps,
    "mixer": find_mixers,
    "pool": find_pools,
    "act": find_acts,
}
_FITTERS: Mapping[str, Callable[..., nn.Module]] = {
    "head": fit_head,
    "mlp": fit_mlp,
    "mixer": fit_mixer,
    "pool": fit_pool,
    "act": fit_act,
}


def replaceable(model: nn.Module) -> dict[str, Places]:
    """The places of a model, by the kind of module that can go there; kinds without a place are absent."""
    seen = probe(model)
    found = {slot: _FINDERS[slot](model, seen) for slot in SLOTS}
    return {slot: places for slot, places in found.items() if places.slots}


def operate(
    model: nn.Module | Callable[[Mapping[str, Places]], tuple[nn.Module, tuple[str, ...]]],
    spec: Spec,
    *,
    plain: nn.Module | None = None,
    twin: nn.Module | None = None,
    weights: str = "",
    features: bool = False,
    batches: Any = None,
) -> nn.Module:
    """Replace parts of a model, in place.

    Args:
        model: the base, as it was built, on the meta device or with real weights; or what builds it, given the plan
            (slot -> places), and says in which slots its new parts are there already.
        spec: what shall be where. Its base and arguments are recorded, not used.
        plain: the base without anything replaced, on the meta device, if the model is a composition already: places
            are counted on it, as they are when the whole is built from its spec.
        twin: the model once more, on the meta device, to find the places and to try the replacement at no cost.
            Without it the model itself is run.
        weights: where the model's weights came from; if set, modules that can do so begin as a copy of what they
            replace.
        features: the model is to be a feature extractor: head and pool stay as they are.
        batches: images, or batches of (images, …), to fit the copies to; random ones otherwise.

    Returns:
        The model, of a subclass of its class.

    Raises:
        UnsupportedSurgery: no place, or none that fits; says what can be replaced in this backbone.
        TypeError, ValueError: options that a module does not take.
    """
    choices = {s: c for s, c in spec.choices.items() if not (features and s in ("head", "pool"))}
    example = plain if plain is not None else twin if twin is not None else model
    assert isinstance(example, nn.Module)  # whoever gives a builder gives a twin
    before = probe(example)
    plan = {slot: _plan(example, before, spec.base, choices[slot]) for slot in SLOTS if slot in choices}
    for slot, places in plan.items():
        if strange := choices[slot].places.keys() - set(places.paths):
            raise UnsupportedSurgery(
                f"{slot}.places of {spec.base} has options for {min(strange)!r}, which is none of its places: "
                f"{', '.join(places.paths)}"
            )
    if "pool" in plan:  # an attention pool has parts of its own, which go with it
        inside = f"{plan['pool'].slots[0].path}."
        for places in plan.values():
            places.slots = [place for place in places.slots if not place.path.startswith(inside)]
    tried = False
    if twin is not None:
        _replace(twin, spec, plan, before)
        tried = _verify(twin, before, plan)
    model, native = (model, ()) if isinstance(model, nn.Module) else model(plan)
    matcher = None
    if not _on_meta(model):
        matchable = {slot: places for slot, places in plan.items() if slot not in native}
        matcher = Matcher(model, choices, matchable, pretrained=bool(weights), batches=batches)
        matcher.watch()
    _replace(model, spec, plan, before, native)
    composition: Composition = model.zoo_composition  # type: ignore[assignment]
    composition.weights = weights
    if not tried:
        _verify(model, before, plan)
    if matcher is not None:
        matcher.fit(composition)
    return model


def _on_meta(model: nn.Module) -> bool:
    return any(p.is_meta for p in model.parameters())


def _plan(model: nn.Module, seen: Probe, base: str, choice: Choice) -> Places:
    """The places that a choice means.

    Raises:
        UnsupportedSurgery: none.
    """
    places = _FINDERS[choice.slot](model, seen)
    what = f"{choice.slot} of {base}"
    if choice.slot == "mlp" and is_pattern(choice.where):
        # Who names a place knows what it is: any module there that keeps the shape of its input.
        named = [n for n, _ in model.named_modules() if n in seen.calls]
        known = {slot.path: slot for slot in places.slots}
        elsewhere = not _matches(places.paths, choice.where) and (_matches(named, choice.where) or not places.paths)
        paths = select(named if elsewhere else places.paths, choice.where, what)
        paths = [p for p in paths if not any(p.startswith(f"{other}.") for other in paths)]
        slots = [known.get(p) or mlp_slot(p, model.get_submodule(p), seen.calls[p]) for p in paths]
        if any(slot is None for slot in slots):
            raise UnsupportedSurgery(
                f"where={choice.where!r} selects modules that change the shape of their input: {paths}"
            )
        return _chosen(model, [s for s in slots if s is not None])
    if not places.slots:
        if choice.slot == "head" and getattr(model, "num_classes", None) == 0:
            return places  # built without a head; reset_classifier will make it
        can = [slot for slot in SLOTS if slot != choice.slot and _FINDERS[slot](model, seen).slots]
        why = "".join(f"; {path} stays: {reason}" for path, reason in list(places.left.items())[:2])
        raise UnsupportedSurgery(
            f"{base} has no {choice.slot} that can be replaced{why}; kinds that can be replaced in it: "
            f"{', '.join(can) or 'none'}"
        )
    chosen = set(select(places.paths, choice.where, what))
    left = places.left if choice.where == "all" else {}
    found = _chosen(model, [slot for slot in places.slots if slot.path in chosen], left)
    found.others = len(places.slots) - len(found.slots) + len(places.left)
    return found


def _chosen(model: nn.Module, slots: list[Slot], left: Mapping[str, str] | None = None) -> Places:
    old = {s.path: describe_module(model.get_submodule(s.path)) for s in slots if s.path != TOKEN_POOL}
    return Places(slots, dict(left or {}), old)


def _matches(paths: list[str], where: Any) -> bool:
    import fnmatch

    return any(fnmatch.fnmatchcase(path, where) for path in paths)


def _replace(
    model: nn.Module, spec: Spec, plan: Mapping[str, Places], before: Probe, native: tuple[str, ...] = ()
) -> None:
    """Put the modules of a plan into a model (those of `native` slots are there) and make it a composed one."""
    composition = Composition(spec)
    pool: tuple[str, nn.Module] | None = None
    width: int | None = None
    if isinstance(model, Composed):
        earlier = model.zoo_composition
        loaded = {"init": "loaded", "error": None} if earlier.loaded else {}
        composition.changes = [replace(c, **loaded) for c in earlier.changes if c.slot not in plan]
        composition.left, composition.lost = dict(earlier.left), dict(earlier.lost)
        composition.pool_width, composition.pool_dim = earlier.pool_width, earlier.pool_dim
        pool = model.zoo_old_pool
    as_composed(model, composition)
    model.zoo_old_pool = pool  # type: ignore[assignment]
    for slot, places in plan.items():
        if slot == "head":
            continue  # after the pool, whose width it must know
        choice = spec.choices[slot]
        new: list[nn.Module] = []
        for place in _standing(model, spec, slot, places):
            old = _get(model, place.path)
            like = old if holds_values(old) else model
            made = old if slot in native else make(choice, place, like)
            made.train(old.training)
            made = _FITTERS[slot](made, place, choice, old, model)
            was = places.old.get(place.path, ("", 0))
            composition.changes.append(Change(slot, place.path, *was, *describe_module(made)))
            if slot == "mixer" and has_position_bias(old) and slot not in native:
                composition.lost[place.path] = "the position bias that was inside"
            _put(model, place, made, old)
            new.append(made)
        composition.left.update(places.left)
        if slot == "pool":
            width = narrow(model)
            mult, dim = int(getattr(new[0], "feat_mult", 1)), places.slots[0].sizes["dim"]
            if mult != 1:
                widen(model, dim, mult * dim)
        reads_token = "pool" not in plan and getattr(model, "global_pool", None) in ("token", "map", "prr")
        if slot == "mixer" and reads_token and not places.others and all(map(leaves_out_prefix, new)):
            raise UnsupportedSurgery(
                f"{choice.name} works on the map and leaves out the class token, from which {spec.base} reads its "
                f"answer: add pool='avg', keep an attention (where=), or give the mixer a mix_prefix method"
            )
    if "head" in plan or width is not None or ("pool" in plan and composition.pool_width is not None):
        rebuild_heads(model, width)


def _standing(model: nn.Module, spec: Spec, slot: str, places: Places) -> list[Slot]:
    """The places of a plan that are there still, after what else was replaced.

    Raises:
        UnsupportedSurgery: none are.
    """
    gone = [place.path for place in places.slots if place.path != TOKEN_POOL and not _has(model, place.path)]
    changes: list[Change] = model.zoo_composition.changes  # type: ignore[union-attr,assignment]
    covering = next((c for path in gone for c in changes if path.startswith(f"{c.path}.")), None)
    inside = "there no more" if covering is None else f"inside of what {covering.slot}={covering.new} replaces"
    if gone and (slot != "act" or spec.choices[slot].where != "all" or len(gone) == len(places.slots)):
        raise UnsupportedSurgery(
            f"{gone[0]!r}, a place for {slot} of {spec.base}, is {inside}: choose other places with where=, or give "
            f"the new module the option itself"
        )
    places.left |= dict.fromkeys(gone, f"it is {inside}")
    return [place for place in places.slots if place.path not in gone]


def _has(model: nn.Module, path: str) -> bool:
    try:
        model.get_submodule(path)
    except AttributeError:
        return False
    return True


def _get(model: nn.Module, path: str) -> nn.Module:
    # A model that pools by arithmetic has no module there yet.
    return getattr(model, TOKEN_POOL, model) if path == TOKEN_POOL else model.get_submodule(path)


def _put(model: nn.Module, place: Slot, new: nn.Module, old: nn.Module) -> None:
    if place.path == TOKEN_POOL:
        model.add_module(TOKEN_POOL, new) if not hasattr(model, TOKEN_POOL) else setattr(model, TOKEN_POOL, new)
        specialise(model, TokenPool, zoo_prefix=place.facts["prefix"], zoo_layout=place.layout)
        return
    if "pool_type" in place.facts and model.zoo_old_pool is None:
        model.zoo_old_pool = (place.path, old)  # type: ignore[assignment]
    replace_module(model, place.path, new)


def _verify(model: nn.Module, before: Probe, plan: Mapping[str, Places]) -> bool:
    """Run the composed model: it must give what it gave, and call what is new as often as what was there.

    Returns:
        Whether it could be run: not every operation is one of the meta device.

    Raises:
        UnsupportedSurgery: it does not run in these sizes, or a new module is never reached.
    """
    names = ", ".join(sorted({c.name for c in model.zoo_composition.spec.choices.values()}))  # type: ignore[union-attr]
    base = model.zoo_composition.spec.base  # type: ignore[union-attr]
    try:
        after = probe(model)
    except UnsupportedSurgery:
        raise
    except Exception as error:
        if _on_meta(model) and (isinstance(error, NotImplementedError) or "meta" in str(error)):
            return False
        raise UnsupportedSurgery(f"{base} does not run with {names} in it: {error}") from error
    if after.logits != before.logits:
        raise UnsupportedSurgery(f"{base} with {names} in it gives {after.logits}, where {before.logits} is expected")
    for slot, places in plan.items():
        for place in places.slots:
            wanted = len(before.calls.get(place.path, ())) or 1
            got = len(after.calls.get(place.path, ()))
            if got != wanted and slot != "act":
                raise UnsupportedSurgery(
                    f"the {slot} at {place.path!r} of {base} is called {got} times, the old one was called {wanted}"
                )
    return True
