"""From a name to a ready model or module."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from zoo.composition import (
    BUILD_OPTIONS,
    SLOTS,
    Composed,
    Spec,
    compose_features,
    compose_onto,
    flat_spec,
    is_composition,
)
from zoo.composition import NAME as COMPOSITE
from zoo.errors import ConfigError, MismatchError, UnknownModelError, UnknownModuleError, WeightsError
from zoo.models.arguments import build_explained, check_model_keywords, check_values
from zoo.naming import check_keywords, did_you_mean
from zoo.registry import (
    default_registry,
    is_model,
    list_pretrained,
    model_entry,
    module_entry,
    split_model_name_tag,
    weights_entry,
)
from zoo.weights import Checkpoint, ModelConfig, build_with_weights, open_checkpoint, read_config

_SCHEMES = {"hf-hub": "hf-hub", "hf_hub": "hf-hub", "local-dir": "local-dir"}
_FEATURE_OPTIONS = ("features_only", "out_indices", "feature_cls", "output_fmt")
_FOR_THE_CALLER = {
    *BUILD_OPTIONS,
    "pretrained",
    "checkpoint_path",
    "scriptable",
    "exportable",
    "no_jit",
    "cache_dir",
} | {
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "init_batches",
    "allow_pickle",
    "token",
    "local_files_only",
}
#: What takes the place of a part: a module's name, `{"type": name, **options}`, or a class.
Part = str | Mapping[str, Any] | Callable[..., nn.Module] | None


@dataclass
class _Source:
    """What a model name stands for.

    Attributes:
        architecture: name in our registry or in timm's.
        tag: tag of a registered checkpoint.
        config: what a folder or a repository says of its model.
        weights: where its weights are, when the name itself says so.
    """

    architecture: str
    tag: str = ""
    config: ModelConfig | None = None
    weights: Any = None


def create_model(
    model_name: str,
    pretrained: bool | None = None,
    pretrained_cfg: str | Mapping[str, Any] | None = None,
    pretrained_cfg_overlay: Mapping[str, Any] | None = None,
    checkpoint_path: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    scriptable: bool | None = None,
    exportable: bool | None = None,
    no_jit: bool | None = None,
    *,
    head: Part = None,
    mlp: Part = None,
    mixer: Part = None,
    pool: Part = None,
    act: Part = None,
    init_batches: Any = None,
    allow_pickle: bool = False,
    token: str | bool | None = None,
    local_files_only: bool = False,
    **kwargs: Any,
) -> nn.Module:
    """Create a model of ours or of timm, with or without weights, with or without parts replaced.

    Args:
        model_name: `"arch"`, `"arch.tag"`, `"hf-hub:user/repo[@revision]"` or `"local-dir:folder"`.
        pretrained: load weights. Default: yes for `hf-hub:` and `local-dir:`, no for a plain name.
        pretrained_cfg: tag, or fields of timm's configuration, instead of the registered one.
        pretrained_cfg_overlay: single fields to replace; `{"file": path}` or `{"state_dict": …}` bring weights.
        checkpoint_path: weights to load instead, a file or a folder. With `num_classes` given, a head of another size
            is made anew; without it, it is an error.
        cache_dir: the Hub's cache folder.
        scriptable, exportable, no_jit: timm's layer configuration.
        head, mlp, mixer, pool, act: what takes the place of the classifier, the feed-forward parts, the token mixers,
            the global pooling, the activations: the name of a module (see `zoo.list_modules`), `{"type": name,
            **options}` with optional `"where"` ("all", "first:k", "last:k", indices, or a pattern on dotted names) and
            `"init"` ("match": begin as a copy of what was there; "own": its own), or a class.
        init_batches: images, or batches of (images, …), on which such copies are made; random images if not given.
        allow_pickle: read pickle checkpoints too, tensors only.
        token, local_files_only: as in `huggingface_hub`.
        **kwargs: of the constructor (`num_classes`, `in_chans`, `img_size`, `drop_rate`, …) and of timm's builder
            (`features_only`, `out_indices`, …). Values of `None` are dropped.

    Returns:
        The model, in training mode as timm's are. `model.zoo_source` names the commit that weights of a repository are
        of.

    Raises:
        UnknownModelError: no such name or tag; near names are in the message.
        UnknownModuleError: no such module for `head`, `mlp`, …; near names and other kinds are in the message.
        UnsupportedSurgery: a part that this backbone has not, or where the module does not fit.
        TypeError, ValueError: an option that the model does not take, or a value out of range.
        WeightsError, HubError, FileNotFoundError: weights that are missing, corrupt, refused or unreachable.
    """
    kwargs = {k: v for k, v in kwargs.items() if v is not None}
    check_values(kwargs)
    hub = {"cache_dir": cache_dir, "token": token, "local_files_only": local_files_only}
    source = _resolve(model_name, hub, allow_pickle)
    if pretrained is None:
        pretrained = source.config is not None
    given = {"head": head, "mlp": mlp, "mixer": mixer, "pool": pool, "act": act}
    parts = {slot: part for slot, part in given.items() if part is not None}
    explicit_classes = "num_classes" in kwargs
    asked = kwargs
    if source.config is not None:
        kwargs = {**source.config.model_args, **kwargs}
        if pretrained_cfg:
            raise ValueError(f"pretrained_cfg cannot be given with {model_name!r}: its own config.json says what it is")
        pretrained_cfg = dict(source.config.pretrained_cfg)
    only_base = pretrained and checkpoint_path is None and (bool(parts) or _is_spec_without_weights(source))
    if parts or only_base:
        spec = _spec_of(source.architecture, parts, kwargs)
        if only_base or init_batches is not None:
            options: dict[str, Any] = {"scriptable": scriptable, "exportable": exportable, "no_jit": no_jit}
            options |= {"allow_pickle": allow_pickle, **hub}
            if parts:  # the weights that the name stands for, then the parts
                cfg = None if source.config is not None else pretrained_cfg
                options |= {"pretrained_cfg": cfg, "pretrained_cfg_overlay": pretrained_cfg_overlay, **asked}
                return _compose_onto(model_name, spec, pretrained, options, init_batches)
            options |= {**spec.arguments, **_build_options(kwargs)}
            return _compose_onto(spec.base, spec, pretrained, options, init_batches)
        source = _Source(COMPOSITE, source.tag)
        kwargs = {**spec.to_dict(), **_build_options(kwargs)}
    backbone = _backbone(source.architecture, kwargs)
    if is_model(backbone):
        check_model_keywords(model_entry(backbone), [k for k in kwargs if k not in ("base", *SLOTS)])

    def build(weights: Mapping[str, torch.Tensor] | None = None, *, on_meta: bool = False) -> nn.Module:
        overlay = dict(pretrained_cfg_overlay or {})
        if weights is not None:
            overlay["state_dict"] = weights
        options = {k: v for k, v in kwargs.items() if k != "device"} if on_meta else kwargs
        return build_explained(
            lambda: timm.create_model(
                source.architecture,
                pretrained=weights is not None,
                pretrained_cfg=pretrained_cfg or source.tag or None,  # type: ignore[arg-type]
                pretrained_cfg_overlay=overlay or None,
                scriptable=scriptable,
                exportable=exportable,
                no_jit=no_jit,
                **options,
            ),
            backbone,
            kwargs,
        )

    # A head that nobody asked for is an error, not a random one.
    adapt = ("head", "in_chans") if explicit_classes else ("in_chans",)
    if checkpoint_path is not None:
        checkpoint = open_checkpoint(os.fspath(checkpoint_path), allow_pickle=allow_pickle)
        try:
            return _build_loaded(build, checkpoint, kwargs, adapt)
        except MismatchError as error:
            if not parts:
                raise
            raise MismatchError(
                f"{error} Weights of {kwargs['base']} as it is go into it before its parts are replaced: give them as "
                f"pretrained=True, pretrained_cfg_overlay={{'file': {os.fspath(checkpoint_path)!r}}}"
            ) from error
    if not pretrained:
        return build()
    if source.weights is not None:
        return _build_loaded(build, source.weights, kwargs, adapt)
    given = {**(pretrained_cfg if isinstance(pretrained_cfg, Mapping) else {}), **(pretrained_cfg_overlay or {})}
    weights, sha256 = _registered_weights(source, given, pretrained_cfg)
    if weights is None:
        return _timm_pretrained(source, build, pretrained_cfg, pretrained_cfg_overlay, cache_dir, kwargs)
    checkpoint = open_checkpoint(
        weights, sha256=sha256, allow_pickle=allow_pickle, **(hub if isinstance(weights, str) else {})
    )
    return _build_loaded(build, checkpoint, kwargs, adapt)


def compose(spec: Mapping[str, Any], **options: Any) -> nn.Module:
    """Create the model that a spec describes: `create_model` on a mapping.

        zoo.compose({"base": "vit_small_patch16_224", "mlp": {"type": "kan", "where": "last:4"}, "num_classes": 9})

    Args:
        spec: `base` (any model name), the parts that are replaced (`head`, `mlp`, `mixer`, `pool`, `act`) and further
            keywords of the base's constructor; `model.zoo_spec` is one, and what `zoo create SPEC.json` reads.
        **options: of `create_model`; they win over the spec's.

    Raises:
        ConfigError: the spec has no base.
        and as `create_model`.
    """
    content = {**Spec.of(spec).to_dict(), **options}
    return create_model(content.pop("base"), **content)


def _spec_of(architecture: str, parts: Mapping[str, Any], kwargs: Mapping[str, Any]) -> Spec:
    """The whole of a composition as one flat spec."""
    content = {k: v for k, v in kwargs.items() if k not in BUILD_OPTIONS}
    inner = flat_spec({**content, "base": content.get("base") if architecture == COMPOSITE else architecture})
    return Spec.of({"base": inner.base, **parts}).over(inner)


def _backbone(architecture: str, kwargs: Mapping[str, Any]) -> str:
    """The architecture whose constructor the keywords are for: of a composition, its base."""
    if architecture != COMPOSITE and not (is_model(architecture) and is_composition(model_entry(architecture))):
        return architecture
    base = kwargs.get("base") or model_entry(architecture).args.get("base")
    return _backbone(base, {}) if isinstance(base, str) else architecture


def _build_options(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in kwargs.items() if k in BUILD_OPTIONS}


def _is_spec_without_weights(source: _Source) -> bool:
    """Whether a name stands for a composition of which only the base has weights."""
    if source.config is not None or not is_model(source.architecture):
        return False
    return is_composition(model_entry(source.architecture)) and weights_entry(source.architecture) is None


def _compose_onto(base: str, spec: Spec, pretrained: bool, options: Mapping[str, Any], batches: Any) -> nn.Module:
    """A base, with its weights if asked for, then the parts of the spec in their places."""
    wrapping = {k: v for k, v in options.items() if k in _FEATURE_OPTIONS}
    rest = {k: v for k, v in options.items() if k not in _FEATURE_OPTIONS}
    weights = base if pretrained else ""

    def build(**more: Any) -> nn.Module:
        return create_model(base, pretrained=pretrained, **rest, **more)

    if wrapping.pop("features_only", False):
        return compose_features(build, spec, wrapping, weights=weights, batches=batches)
    return compose_onto(build(), spec, weights=weights, batches=batches)


def _resolve(name: Any, hub: Mapping[str, Any], allow_pickle: bool) -> _Source:
    """Parse a model name; a folder's or repository's config is read here."""
    if not isinstance(name, str):
        raise TypeError(f"model name must be a str, got {name!r}")
    scheme, colon, rest = name.partition(":")
    if not colon:
        return _registered(name)
    if scheme.lower() not in _SCHEMES:
        raise ValueError(
            f"unknown scheme {scheme!r} in {name!r}: write 'hf-hub:user/repo' for a repository on the Hugging Face "
            f"Hub, 'local-dir:folder' for a folder ('hf-hub:' and 'local-dir:' are all there are)"
        )
    if not rest:
        need = (
            "a repository: 'hf-hub:user/name'" if _SCHEMES[scheme.lower()] == "hf-hub" else "a folder: 'local-dir:path'"
        )
        raise ValueError(f"{name!r} needs {need}")
    if _SCHEMES[scheme.lower()] == "local-dir":
        folder = Path(rest)
        if not folder.is_dir():
            near = did_you_mean(
                folder.name, [p.name for p in folder.parent.iterdir()] if folder.parent.is_dir() else []
            )
            raise FileNotFoundError(f"there is no folder {rest!r}{near}")
        config = read_config(folder)
        return _Source(_known_architecture(config), config=config, weights=f"local-dir:{rest}")
    checkpoint = open_checkpoint(f"hf-hub:{rest}", allow_pickle=allow_pickle, **hub)
    if checkpoint.config is None:
        raise WeightsError(
            f"{rest!r} has no config.json, so nothing says which model its weights are for; "
            f"create the model by name and load them with zoo.load_weights(model, 'hf-hub:{rest}')"
        )
    return _Source(_known_architecture(checkpoint.config), config=checkpoint.config, weights=checkpoint)


def _registered(name: str) -> _Source:
    architecture, tag = split_model_name_tag(name)
    if is_model(architecture):
        entry = model_entry(name)
        if tag:
            weights_entry(name)
        return _Source(entry.name, tag)
    if not timm.is_model(architecture):
        model_entry(name, timm.list_models())  # raises, with near names
    if tag:
        tags = [n.partition(".")[2] for n in timm.list_models(f"{architecture}.*", include_tags=True)]
        if tag not in tags:
            default = timm.models.get_pretrained_cfg(architecture)
            listed = ", ".join(repr(t) + (" (default)" if default and t == default.tag else "") for t in tags) or "none"
            raise UnknownModelError(
                f"{architecture!r} has no checkpoint tagged {tag!r}{did_you_mean(tag, tags) or '.'} Tags: {listed}"
            )
    return _Source(architecture, tag)


def _known_architecture(config: ModelConfig) -> str:
    """The architecture that a config names, if we or timm have it."""
    name = config.architecture
    if is_model(name):
        name = model_entry(name).name
        if name == COMPOSITE:
            _check_composition(config)
        return name
    if timm.is_model(name):
        return name
    hint = did_you_mean(name, [*default_registry().names(), *timm.list_models()])
    if config.zoo:
        written = config.zoo.get("version", "an unknown version")
        raise UnknownModelError(
            f"{config.origin} is a {name!r}, which this zoo does not have{hint or '.'} It was written by zoo "
            f"{written}: upgrade zoo, or import the package that registers {name!r} first"
        )
    raise UnknownModelError(f"{config.origin} names the unknown architecture {name!r}{hint}")


def _check_composition(config: ModelConfig) -> None:
    """Refuse a published spec that is none, before anything is built from it."""
    if reserved := sorted(config.model_args.keys() & _FOR_THE_CALLER):
        raise ConfigError(f"{config.origin} sets {', '.join(reserved)}, which only whoever loads the model can say")
    try:
        check_values(config.model_args)
        flat_spec(config.model_args)
    except UnknownModuleError as error:
        written = config.zoo.get("version", "an unknown version")
        raise UnknownModuleError(
            f"{config.origin}: {error} (written by zoo {written}: upgrade zoo, or import the package that registers "
            f"the module first)"
        ) from error
    except UnknownModelError as error:
        raise UnknownModelError(f"{config.origin}: {error}") from error
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{config.origin} holds no composition: {error}") from error


def _registered_weights(
    source: _Source, given: Mapping[str, Any], pretrained_cfg: str | Mapping[str, Any] | None
) -> tuple[Any, str | None]:
    """Weights and their sha256: from the caller's configuration, else from our manifest; `None` for timm's own."""
    for key in ("state_dict", "file"):
        if given.get(key) is not None:
            return given[key], None
    if given.get("hf_hub_id"):
        return f"hf-hub:{given['hf_hub_id']}", None
    if not is_model(source.architecture):
        return None, None
    tag = source.tag or (pretrained_cfg if isinstance(pretrained_cfg, str) else "")
    row = weights_entry(f"{source.architecture}.{tag}" if tag else source.architecture)
    if row is None:
        raise WeightsError(
            f"there are no pretrained weights for {source.architecture!r}{_with_weights(source.architecture)} "
            f"Pass pretrained=False, or checkpoint_path= with weights of your own"
        )
    if row.path is not None:
        return os.fspath(row.path), row.sha256 or None
    return f"hf-hub:{row.repo}@{row.revision}", row.sha256 or None


def _with_weights(name: str) -> str:
    """A hint that names models with weights: of the same family, else any of ours."""
    family = model_entry(name).family.name
    same = [n for n in list_pretrained() if model_entry(n).family.name == family] or list_pretrained()
    return f"; these have some: {', '.join(repr(n) for n in same)}." if same else "."


def _build_loaded(
    build: Callable[..., nn.Module], weights: Any, kwargs: Mapping[str, Any], adapt: tuple[str, ...]
) -> nn.Module:
    """Build the model around the weights; nothing is initialised to be thrown away."""
    checkpoint = weights if isinstance(weights, Checkpoint) else open_checkpoint(weights)
    if any(kwargs.get(option) for option in _FEATURE_OPTIONS):
        # timm loads before it wraps and prunes the model, so here it is given the (verified) tensors.
        model = build(checkpoint.tensors)
    else:
        # The target device is for the weights; the constructor runs where nothing is allocated.
        model, _ = build_with_weights(lambda: build(on_meta=True), checkpoint, device=kwargs.get("device"), adapt=adapt)
        if kwargs.get("dtype") is not None:
            model.to(dtype=kwargs["dtype"])
    if checkpoint.source is not None:
        model.zoo_source = checkpoint.source  # type: ignore[assignment]
    if isinstance(model, Composed):
        model.zoo_composition.loaded = checkpoint.origin
    return model


def _timm_pretrained(
    source: _Source,
    build: Callable[..., nn.Module],
    pretrained_cfg: Any,
    overlay: Mapping[str, Any] | None,
    cache_dir: Any,
    kwargs: Mapping[str, Any],
) -> nn.Module:
    """Weights of timm's own models, by timm: it alone knows their files and how to read them."""
    if not timm.models.is_model_pretrained(f"{source.architecture}.{source.tag}".rstrip(".")):
        raise WeightsError(f"timm has no pretrained weights for {source.architecture!r}; pass pretrained=False")
    return build_explained(
        lambda: timm.create_model(
            source.architecture,
            pretrained=True,
            pretrained_cfg=pretrained_cfg or source.tag or None,
            pretrained_cfg_overlay=dict(overlay) if overlay else None,
            cache_dir=cache_dir,
            **kwargs,
        ),
        source.architecture,
        kwargs,
    )


def create_module(kind: str, name: str | None = None, *args: Any, **kwargs: Any) -> nn.Module:
    """Create a registered module: `create_module("mlp", "kan", 64)` or `create_module("mlp/kan", 64)`.

    Args:
        kind: its kind, or `"kind/name"`.
        name: its name within the kind (with `"kind/name"`, the first constructor argument).
        *args: of the constructor; which ones is the promise of the kind.
        **kwargs: of the constructor.

    Raises:
        UnknownModuleError: no such module; near names are in the message.
        TypeError: a keyword that the module does not take, with near and accepted names.
    """
    if "/" in kind:
        entry = module_entry(kind)
        args = args if name is None else (name, *args)
    elif name is None:
        raise TypeError(f"name the module: create_module({kind!r}, name, …) or create_module('{kind}/name', …)")
    else:
        entry = module_entry(name, kind)
    cls = entry.load()
    parameters = inspect.signature(cls).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        check_keywords(kwargs, parameters, entry.name)
    return cls(*args, **{**entry.args, **kwargs})
