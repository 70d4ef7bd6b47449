"""The entry that composed models have in the registries: from a spec to a model, as timm calls an entry point."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import timm
import torch
from timm.models import load_pretrained, resolve_pretrained_cfg
from timm.models._features import FeatureDictNet, FeatureGetterNet, FeatureHookNet, FeatureListNet
from timm.models._features_fx import FeatureGraphNet
from torch import nn

from zoo.composition.composed import Composed
from zoo.composition.heads import class_row_paths
from zoo.composition.meta import without_values
from zoo.composition.native import build_native
from zoo.composition.pools import TOKEN_POOL
from zoo.composition.spec import BUILD_OPTIONS, Spec
from zoo.composition.surgery import operate
from zoo.errors import ZooError
from zoo.models.timm_mirror import OF_THE_IMAGE
from zoo.weights.adapt import classifier_names
from zoo.weights.description import backbone_state

NAME = "zoo_composite"
_FEATURES = {
    "list": FeatureListNet,
    "dict": FeatureDictNet,
    "hook": FeatureHookNet,
    "fx": FeatureGraphNet,
    "getter": FeatureGetterNet,
}
_SOURCES = ("state_dict", "file", "hf_hub_id", "url")


def composite(
    base: str = "",
    pretrained: bool = False,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: Mapping[str, Any] | None = None,
    cache_dir: Any = None,
    *,
    head: Any = None,
    mlp: Any = None,
    mixer: Any = None,
    pool: Any = None,
    act: Any = None,
    pretrained_model_args: Any = None,
    **kwargs: Any,
) -> nn.Module:
    """A backbone with parts replaced.

    Args:
        base: architecture of ours or timm's; there is no default.
        pretrained: load weights: of the whole, when the configuration says where they are; else the base's.
        pretrained_cfg, pretrained_cfg_overlay, cache_dir: as timm's.
        head, mlp, mixer, pool, act: what takes the place of which part.
        pretrained_model_args: timm's record of a checkpoint's arguments; a spec needs none.
        **kwargs: of the base's constructor and of timm's builder.

    Returns:
        The model, with `zoo_spec`.
    """
    parts = {"head": head, "mlp": mlp, "mixer": mixer, "pool": pool, "act": act}
    spec = flat_spec({"base": base, **parts, **{k: v for k, v in kwargs.items() if k not in BUILD_OPTIONS}})
    cfg = _configuration(spec, pretrained_cfg, pretrained_cfg_overlay)
    own = cfg if pretrained and _names_weights(pretrained_cfg, pretrained_cfg_overlay) else None
    placement = {k: v for k, v in kwargs.items() if k in ("device", "dtype")}
    weights = _name_of(spec, cfg) if pretrained and own is None else ""

    def build(**options: Any) -> nn.Module:
        loading = {"pretrained": True, "cache_dir": cache_dir} if weights else {}
        return timm.create_model(spec.base, **loading, **spec.arguments, **placement, **options)

    if kwargs.get("features_only"):
        options = {k: v for k, v in kwargs.items() if k in ("out_indices", "output_fmt", "feature_cls")}
        return compose_features(build, spec, options, weights=weights, cfg=own)
    on_meta = torch.get_default_device().type == "meta" or str(placement.get("device")) == "meta"
    twin = None if on_meta or weights else without_memory(Spec(spec.base, {}, spec.arguments))
    if twin is not None:
        model = operate(lambda plan: build_native(spec, twin, plan, placement), spec, twin=twin)
        _record(model, spec)
    else:
        model = compose_onto(build(), spec, weights=weights)
    if not weights and own is None and not pretrained_cfg:
        cfg = {k: v for k, v in cfg.items() if k in OF_THE_IMAGE}  # nothing here is of the base's checkpoint
    _describe(model, cfg)
    if own is not None:
        _load(model, own, num_classes=model.num_classes)  # type: ignore[arg-type]
    return model


def compose_onto(model: nn.Module, spec: Spec, *, weights: str = "", batches: Any = None) -> nn.Module:
    """Replace parts of a built base, and record the spec where timm and the zoo look for it.

    Args:
        model: of architecture `spec.base`, built with `spec.arguments`; or a composition of that base.
        spec: flat.
        weights: where its weights came from.
        batches: as `operate`.
    """
    inner, new, plain = Spec(spec.base, {}, spec.arguments), spec, None
    if isinstance(model, Composed):
        plain = without_memory(inner)
        inner = model.zoo_composition.spec
        changed = {slot: c for slot, c in spec.choices.items() if c != inner.choices.get(slot)}
        new = Spec(spec.base, changed, spec.arguments)
    twin = None if any(p.is_meta for p in model.parameters()) else without_memory(inner)
    operate(model, new, plain=plain, twin=twin, weights=weights, batches=batches)
    if hasattr(model, "top1"):
        model.top1 = {}  # type: ignore[assignment] - of a stitched network with the parts that were there
    _record(model, spec)
    return model


def _record(model: nn.Module, spec: Spec) -> None:
    model.zoo_composition.spec = spec  # type: ignore[union-attr]
    model.zoo_composition.built = backbone_state(model)  # type: ignore[union-attr]
    model._model_args = spec.to_dict()  # type: ignore[assignment]
    model.zoo_name = NAME  # type: ignore[assignment]
    _describe(model, model.pretrained_cfg)  # type: ignore[arg-type]


def _describe(model: nn.Module, cfg: Mapping[str, Any]) -> None:
    """Give a model its configuration; the name of the classes' rows is that of the head which it has now."""
    model.pretrained_cfg = model.default_cfg = {**cfg, "architecture": NAME}  # type: ignore[assignment]
    rows = class_row_paths(model)
    if rows:
        model.pretrained_cfg["classifier"] = rows[0] if len(rows) == 1 else rows


def without_memory(spec: Spec) -> nn.Module | None:
    """What a spec describes, on the meta device; `None` if its constructor computes with values."""
    with without_values():
        try:
            return composite(**spec.to_dict()) if spec.choices else timm.create_model(spec.base, **spec.arguments)
        except (ZooError, TypeError, ValueError, AssertionError):
            raise  # a wrong argument, which the real model would not take either
        except Exception:
            return None


def compose_features(
    build: Callable[..., nn.Module],
    spec: Spec,
    options: Mapping[str, Any],
    *,
    weights: str = "",
    cfg: Mapping[str, Any] | None = None,
    batches: Any = None,
) -> nn.Module:
    """A composition as a feature extractor: timm builds and wraps it, the parts are replaced in between.

    Args:
        build: makes the base, given timm's options of a feature extractor.
        spec: flat. Head and pool are no part of a feature extractor.
        options: `out_indices`, `output_fmt` and `feature_cls` (a name of timm's or a class; "getter" if not given).
        weights: where the base's weights come from.
        cfg: configuration that says where weights of the whole are.
        batches: as `operate`.
    """
    name = options.get("feature_cls") or "getter"
    wrapper = _FEATURES.get(name.lower()) if isinstance(name, str) else name
    if wrapper is None:
        raise ValueError(f"feature_cls must be one of {', '.join(map(repr, _FEATURES))}, got {name!r}")
    rest = {k: v for k, v in options.items() if k != "feature_cls"}

    def wrap(cls: type, model: nn.Module, **wrapping: Any) -> nn.Module:
        on_meta = any(p.is_meta for p in model.parameters())
        twin = None if on_meta else without_memory(Spec(spec.base, {}, spec.arguments))
        operate(model, spec, twin=twin, weights=weights, features=True, batches=batches)
        if cfg is not None:
            _load(model, cfg, num_classes=0)
        return wrapper(model, **wrapping)

    # timm gives a wrapper the options that its class knows, so it has to see a subclass.
    between = type(wrapper.__name__, (wrapper,), {"__new__": wrap})
    return build(features_only=True, feature_cls=between, **rest)


def _load(model: nn.Module, cfg: Mapping[str, Any], *, num_classes: int) -> None:
    """Weights of the whole, as timm loads them.

    A head for other classes stays behind (timm itself knows plain layers only), and the pool of a feature extractor.
    """

    def fitting(state: dict[str, torch.Tensor], model: nn.Module) -> dict[str, torch.Tensor]:
        own = model.state_dict()
        heads = classifier_names(model) if num_classes != cfg.get("num_classes") else ()
        left = tuple(f"{path}." for path in (*heads, *(() if hasattr(model, TOKEN_POOL) else (TOKEN_POOL,))))
        kept = {name: tensor for name, tensor in state.items() if not name.startswith(left)}
        return kept | {name: tensor for name, tensor in own.items() if name.startswith(left)}

    load_pretrained(model, dict(cfg), num_classes, getattr(model, "in_chans", 3), filter_fn=fitting)


def flat_spec(content: Mapping[str, Any]) -> Spec:
    """A spec whose base is no composition itself: one that is, is taken apart.

    Raises:
        UnknownModelError: nothing is called what the base is called. A folder or a repository is no base: what a spec
            says must be enough to build it.
        and as `Spec.of`.
    """
    from zoo.registry import is_model, model_entry

    spec = Spec.of(content)
    while is_model(spec.base) and is_composition(entry := model_entry(spec.base)):
        if not entry.args:
            raise ValueError(f"{spec.base!r} is the form of compositions, not a backbone: give base= a model's name")
        spec = spec.over(Spec.of(entry.args))
    if not is_model(spec.base) and not timm.is_model(spec.base):
        model_entry(spec.base, timm.list_models())  # raises, with near names
    return spec


def is_composition(entry: Any) -> bool:
    """Whether an entry of the registry is a spec by name."""
    return entry.target in (TARGET, composite)


TARGET = f"{__name__}:composite"


def _configuration(spec: Spec, given: Any, overlay: Mapping[str, Any] | None) -> dict[str, Any]:
    """timm's configuration for a composition: the base's, unless another is given whole."""
    cfg = resolve_pretrained_cfg(spec.base, pretrained_cfg=given or None, pretrained_cfg_overlay=dict(overlay or {}))
    return cfg.to_dict()


def _names_weights(*given: Any) -> bool:
    """Whether what the caller gave says where weights of the whole are; otherwise they are the base's."""
    parts = [part if isinstance(part, Mapping) else getattr(part, "__dict__", {}) for part in given]
    return any(part.get(source) is not None for part in parts for source in _SOURCES)


def _name_of(spec: Spec, cfg: Mapping[str, Any]) -> str:
    return f"{spec.base}.{cfg['tag']}" if cfg.get("tag") else spec.base
