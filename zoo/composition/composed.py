"""A composed model's own behaviour: what makes it go on being a timm model after its parts were replaced."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import nn

from zoo.composition.heads import fit_head, leaf_slots
from zoo.composition.mixers import MixerPort
from zoo.composition.pools import TOKEN_POOL, TokenPool
from zoo.composition.slots import make, placement, replace_module
from zoo.composition.spec import BUILD_OPTIONS, SLOTS, Choice, Spec, as_json
from zoo.composition.specialise import Specialised, original_class, restore, specialise
from zoo.composition.where import select
from zoo.weights.description import backbone_state


@dataclass
class Change:
    """One part that was replaced.

    Attributes:
        slot: kind of the place.
        path: where.
        old, old_params: class and parameters of what was there.
        new, new_params: of what is there now.
        init: how the new one began: "own", "match", or "loaded" with what else the model was loaded with.
        error: with "match", the difference to the old one on inputs it was not fitted to, relative to its output's
            spread.
    """

    slot: str
    path: str
    old: str
    old_params: int
    new: str
    new_params: int
    init: str = "own"
    error: float | None = None


@dataclass
class Composition:
    """What was done to a model.

    Attributes:
        spec: the composition in words.
        changes: one a replaced part.
        left: path -> why a part that looks replaceable stayed.
        lost: path -> what a replaced part did that the new one does not.
        weights: where the base's weights came from; empty for random ones.
        loaded: where weights of the whole came from, if it was loaded.
        pool_width: width of the features after the pool when it is not the backbone's.
        pool_dim: then also the backbone's own.
        built: image size and pooling that the model was built with, as arguments.
    """

    spec: Spec
    changes: list[Change] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    weights: str = ""
    loaded: str = ""
    pool_width: int | None = None
    pool_dim: int | None = None
    built: dict[str, Any] = field(default_factory=dict)


class Composed(Specialised):
    """A backbone of which parts were replaced.

    Attributes set on the model:
        zoo_composition: what was done.
        zoo_old_pool: the pooling module that a new one stands in for; outside the module tree.
    """

    # TorchScript compiles a class's properties, asked for or not.
    __jit_unused_properties__ = ("zoo_spec",)

    if TYPE_CHECKING:
        zoo_composition: Composition
        zoo_old_pool: tuple[str, nn.Module] | None

    @property
    def zoo_spec(self) -> dict[str, Any]:
        """The canonical spec of the model as it is now; JSON, unless a class was given where a name could be."""
        spec = self.zoo_composition.spec
        arguments = dict(spec.arguments)
        # timm records there what its methods change.
        recorded = getattr(self, "_model_args", {}).items()
        arguments |= {k: v for k, v in recorded if k not in ("base", *SLOTS, *BUILD_OPTIONS) and v is not None}
        for name in ("num_classes", "in_chans"):
            if isinstance(value := getattr(self, name, None), int):
                arguments[name] = value
        built = self.zoo_composition.built
        arguments |= {k: v for k, v in backbone_state(self).items() if v != built.get(k, v)}  # type: ignore[arg-type]
        choices = {slot: self._zoo_present(choice) for slot, choice in spec.choices.items()}
        return Spec(spec.base, choices, {k: as_json(v, k) for k, v in arguments.items()}).to_dict()

    def _zoo_present(self, choice: Choice) -> Choice:
        """A choice with the options that its modules have now."""
        modules = {c.path: self._zoo_module(c.path) for c in self.zoo_composition.changes if c.slot == choice.slot}
        return choice.changed_to(
            {path: m.changed_options() if hasattr(m, "changed_options") else {} for path, m in modules.items()}
        )

    def _zoo_module(self, path: str) -> Any:
        """The module at a path; None where there is none any more."""
        try:
            return self.get_submodule(path)  # type: ignore[attr-defined]
        except AttributeError:
            return None

    def reset_classifier(self, num_classes: int, global_pool: str | None = None, **options: Any) -> None:
        """Another number of classes, with the same kind of head (timm's method).

        Args:
            num_classes: of the new head; 0 removes it.
            global_pool: a pooling of the backbone's own, instead of the present one; `""` for none.
            **options: of the backbone's method.
        """
        pool = self._zoo_take_pool_off()
        # The backbone rebuilds plain layers where its own stood; what is fitted to a place is put there again.
        super().reset_classifier(num_classes, global_pool, **options)  # type: ignore[misc]
        if global_pool is None:
            self._zoo_put_pool_on(pool)
        else:
            self._zoo_record(global_pool=global_pool)
        if global_pool is not None and pool is not None:
            composition = self.zoo_composition
            choices = {k: v for k, v in composition.spec.choices.items() if k != "pool"}
            composition.spec = Spec(composition.spec.base, choices, composition.spec.arguments)
            composition.changes = [c for c in composition.changes if c.slot != "pool"]
            narrow(self)  # type: ignore[arg-type]
        rebuild_heads(self)  # type: ignore[arg-type]

    def _zoo_record(self, **arguments: Any) -> None:
        """Note what the model was changed to since it was built."""
        spec = self.zoo_composition.spec
        self.zoo_composition.spec = Spec(spec.base, spec.choices, {**spec.arguments, **arguments})

    def _zoo_take_pool_off(self) -> nn.Module | None:
        """Put the backbone's own pooling back; returns the one that was there."""
        if self.zoo_old_pool is not None:
            path, old = self.zoo_old_pool
            new = self.get_submodule(path)  # type: ignore[attr-defined]
            replace_module(self, path, old)  # type: ignore[arg-type]
            return new
        if isinstance(self, TokenPool):
            new = self.zoo_pool
            restore(self, TokenPool)  # type: ignore[type-var]
            del self.zoo_pool
            return new
        return None

    def _zoo_put_pool_on(self, pool: nn.Module | None) -> None:
        if pool is None:
            return
        if self.zoo_old_pool is not None:
            path = self.zoo_old_pool[0]
            self.zoo_old_pool = (path, self.get_submodule(path))  # type: ignore[attr-defined]
            replace_module(self, path, pool)  # type: ignore[arg-type]
        else:
            setattr(self, TOKEN_POOL, pool)
            specialise(self, TokenPool)  # type: ignore[type-var]

    def no_weight_decay(self) -> set[str]:
        """Names of parameters without weight decay: the backbone's, and those that new modules name themselves."""
        inherited: Any = getattr(super(), "no_weight_decay", set)
        names = set(inherited())
        for change in self.zoo_composition.changes:
            own: Any = getattr(self._zoo_module(change.path), "no_weight_decay", set)
            names |= {f"{change.path}.{name}" for name in own()}
        return names


class Resizable(Specialised):
    """A composed model whose backbone has `set_input_size`: mixers on maps follow to the new grid."""

    def set_input_size(self, *args: Any, **kwargs: Any) -> None:
        """timm's method."""
        super().set_input_size(*args, **kwargs)  # type: ignore[misc]
        size = (getattr(self, "_traits", None) or {}).get("img_size") or kwargs.get("img_size")
        if size is None:
            return
        height, width = (size, size) if isinstance(size, int) else size
        given = {k: kwargs[k] for k in ("patch_size", "window_size") if kwargs.get(k) is not None}
        sizes = {k: list(v) if isinstance(v, tuple) else v for k, v in given.items()}
        self._zoo_record(img_size=[int(height), int(width)], **sizes)  # type: ignore[attr-defined]
        for module in self.modules():  # type: ignore[attr-defined]
            if isinstance(module, MixerPort):
                module.zoo_resize(height, width)


def widen(model: nn.Module, dim: int, width: int) -> None:
    """Follow a pool that concatenates: the norm after it becomes as wide as it is; the classifier is rebuilt later."""
    composition: Composition = model.zoo_composition  # type: ignore[assignment]
    composition.pool_width, composition.pool_dim = width, dim
    _follow_width(model, dim, width)


def narrow(model: nn.Module) -> int | None:
    """Undo `widen`; returns the width of the backbone's own features, `None` if nothing was widened."""
    composition: Composition = model.zoo_composition  # type: ignore[assignment]
    width, dim = composition.pool_width, composition.pool_dim
    composition.pool_width = composition.pool_dim = None
    if width is not None and dim is not None:
        _follow_width(model, width, dim)
    return dim


def _follow_width(model: nn.Module, old: int, new: int) -> None:
    for path in ("fc_norm", "head.norm"):
        try:
            norm = model.get_submodule(path)
        except AttributeError:
            continue
        if isinstance(norm, nn.LayerNorm) and norm.normalized_shape == (old,):
            fresh = copy.copy(norm)  # timm's norms differ in their constructors
            fresh._parameters = {
                n: p if p is None else nn.Parameter(p.new_empty(new)) for n, p in norm._parameters.items()
            }
            fresh.normalized_shape = (new,)
            fresh.reset_parameters()
            replace_module(model, path, fresh)
    if getattr(model, "head_hidden_size", None) == old:
        model.head_hidden_size = new  # type: ignore[assignment]


def rebuild_heads(model: nn.Module, width: int | None = None) -> None:
    """Put the composed head where the backbone has a layer; a plain one of another width if only that is another.

    Args:
        model: composed.
        width: of the features, when it is not that of the layer that stands there.
    """
    composition: Composition = model.zoo_composition  # type: ignore[assignment]
    choice = composition.spec.choices.get("head")
    composition.changes = [c for c in composition.changes if c.slot != "head"]
    width = width if composition.pool_width is None else composition.pool_width
    if choice is None and width is None:
        return
    slots = leaf_slots(model)
    if not slots:
        return  # without classes
    paths = [slot.path for slot in slots]
    chosen = paths if choice is None else select(paths, choice.where, f"head of {composition.spec.base}")
    for slot in slots:
        path = slot.path
        leaf = model.get_submodule(path)
        if width is not None:
            slot.sizes = {**slot.sizes, "in_features": width}
        if path not in chosen and width is None:
            continue
        if choice is None or path not in chosen:
            device, dtype = placement(leaf)
            new: nn.Module = nn.Linear(*slot.sizes.values(), **slot.wishes, device=device, dtype=dtype)
            new.train(leaf.training)
        else:
            new = make(choice, slot, leaf)
            composition.changes.append(Change("head", path, *describe_module(leaf), *describe_module(new)))
        replace_module(model, path, fit_head(new, slot))


def describe_module(module: nn.Module) -> tuple[str, int]:
    """Class name and number of parameters."""
    return original_class(module).__name__, sum(p.numel() for p in module.parameters())


def as_composed(model: nn.Module, composition: Composition) -> nn.Module:
    """Give a model the behaviour of a composed one, in place."""
    behaviours = [Composed, *([Resizable] if hasattr(model, "set_input_size") else [])]
    return specialise(model, *behaviours, zoo_composition=composition, zoo_old_pool=None)
