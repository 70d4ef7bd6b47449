"""From a name to a ready model or module."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
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
from zoo.errors import ConfigError, MismatchError, WeightsError, ZooError
from zoo.models.arguments import build_explained, check_model_keywords, check_values, takes_several_tasks
from zoo.models.data_config import set_data_config
from zoo.naming import check_keywords
from zoo.registry import KINDS, is_model, model_entry, module_entry, weights_entry
from zoo.sources import OF_WEIGHTS, Source, registered, registered_weights, resolve
from zoo.weights import Checkpoint, ModelConfig, build_with_weights, open_checkpoint
from zoo.weights.strict_json import cut, parse_json, shorten

#: Options that make no other network of one.
_HARMLESS = {"stitch", "strict", "drop_rate", "drop_path_rate"}
_FEATURE_OPTIONS = ("features_only", "out_indices", "feature_cls", "output_fmt")
#: What takes the place of a part: a module's name, `{"type": name, **options}`, or a class.
Part = str | Mapping[str, Any] | Callable[..., nn.Module] | None


@dataclass(frozen=True)
class _Loading:
    """How weights are had.

    Attributes:
        pretrained: whether at all.
        cfg, overlay: timm's configuration, as the caller gives it.
        path: a file or folder instead.
        layers: timm's layer configuration.
        hub: `cache_dir`, `token`, `local_files_only`.
        allow_pickle: read pickles, too.
    """

    pretrained: bool
    cfg: str | Mapping[str, Any] | None = None
    overlay: Mapping[str, Any] = field(default_factory=dict)
    path: str | os.PathLike[str] | None = None
    layers: Mapping[str, Any] = field(default_factory=dict)
    hub: Mapping[str, Any] = field(default_factory=dict)
    allow_pickle: bool = False


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
    standalone: bool = False,
    allow_pickle: bool = False,
    token: str | bool | None = None,
    local_files_only: bool = False,
    **kwargs: Any,
) -> nn.Module:
    """Create a model of ours or of timm, with or without weights, with or without parts replaced.

    Args:
        model_name: `"arch"`, `"arch.tag"`, `"hf-hub:user/repo[@revision]"` or `"local-dir:folder"`, also of a run.
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
            `"init"` ("match": begin as a copy of what was there; "own": its own; any other value is the module's own
            option `init`), or a class.
        init_batches: images, or batches of (images, …), on which such copies are made; random images if not given.
        standalone: of a stitched network give the path `stitch=` alone, as `export` does; of its weights, which are
            required, only those of the path are read.
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
        WeightsError (with MissingFileError), HubError: weights that are missing, corrupt, refused or unreachable.
    """
    kwargs = {k: v for k, v in kwargs.items() if v is not None}
    several = isinstance(kwargs.get("num_classes"), list | tuple)  # then the name says whether that can be
    if not several:
        check_values(kwargs)
    hub = {"cache_dir": cache_dir, "token": token, "local_files_only": local_files_only}
    source = resolve(model_name, hub, allow_pickle)
    if several:
        ours = is_model(source.architecture) and takes_several_tasks(model_entry(source.architecture))
        check_values(kwargs, several_tasks=ours)
    if source.config is not None:
        if pretrained_cfg:
            raise ValueError(f"pretrained_cfg cannot be given with {model_name!r}: its own config.json says what it is")
        pretrained_cfg = dict(source.config.pretrained_cfg)
    loading = _Loading(
        source.config is not None if pretrained is None else pretrained,
        pretrained_cfg,
        pretrained_cfg_overlay or {},
        checkpoint_path,
        {"scriptable": scriptable, "exportable": exportable, "no_jit": no_jit},
        hub,
        allow_pickle,
    )
    if standalone:
        return _alone(source, loading, kwargs)
    given = {"head": head, "mlp": mlp, "mixer": mixer, "pool": pool, "act": act}
    parts = {slot: part for slot, part in given.items() if part is not None}
    arguments = {**_arguments_of(source), **kwargs}
    if not parts:
        if init_batches is not None:
            raise ValueError("init_batches is for the parts that are replaced (head=, mlp=, …); none is given")
        return _create(source, loading, kwargs)
    spec = _spec_of(source.architecture, parts, arguments)
    if init_batches is not None or (loading.pretrained and loading.path is None):
        # The weights that the name stands for first, then the parts.
        return _compose_onto(source, loading, kwargs, spec, model_name, init_batches)
    try:
        composed = {**spec.to_dict(), **_build_options(arguments)}
        return _create(Source(COMPOSITE, source.tag), replace(loading, pretrained=False), composed, kwargs)
    except MismatchError as error:
        raise MismatchError(
            f"{error} Weights of {spec.base} as it is go into it before its parts are replaced: give them as "
            f"pretrained=True, pretrained_cfg_overlay={{'file': {os.fspath(checkpoint_path or '')!r}}}"
        ) from error


def compose(spec: Mapping[str, Any] | str | os.PathLike[str], **options: Any) -> nn.Module:
    """Create the model that a spec describes: `create_model` on a mapping.

        zoo.compose({"base": "vit_small_patch16_224", "mlp": {"type": "kan", "where": "last:4"}, "num_classes": 9})

    Args:
        spec: a mapping, or a JSON file of one: `base` (any model name), the parts that are replaced (`head`, `mlp`,
            `mixer`, `pool`, `act`) and further
            keywords of the base's constructor; `model.zoo_spec` is one, and what `zoo create SPEC.json` reads.
        **options: of `create_model`; they win over the spec's.

    Raises:
        ConfigError: the spec has no base.
        ValueError: and all that `create_model` raises.
    """
    if isinstance(spec, str | os.PathLike):
        spec = _read_spec(spec)
    content = {**Spec.of(spec).to_dict(), **options}
    return create_model(content.pop("base"), **content)


def _read_spec(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    try:
        return parse_json(Path(path).read_text("utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {os.fspath(path)!r} with a spec") from None
    except ValueError as error:
        raise ConfigError(f"{os.fspath(path)} is not valid JSON: {error}") from error


def _create(
    source: Source, loading: _Loading, kwargs: Mapping[str, Any], asked: Mapping[str, Any] | None = None
) -> nn.Module:
    """Build what a name stands for, with its weights.

    Args:
        source: of the name.
        loading: how weights are had.
        kwargs: of the constructor and timm's builder; a source's own configuration is beneath them.
        asked: those that the caller gave, where `kwargs` are more.
    """
    adapt = ("in_chans",)
    if "num_classes" in (kwargs if asked is None else asked):
        adapt = ("head", "in_chans")  # a head that nobody asked for is an error, not a random one
    wanted = {k: v for k, v in kwargs.items() if k not in ("num_classes", "device", "dtype")}
    changed = wanted.keys() - {"in_chans"}
    from_name = loading.pretrained and loading.path is None
    if source.config is not None:
        kwargs = {**_arguments_of(source, wanted if from_name else None), **kwargs}
    if from_name and _only_the_base_has_weights(source):
        spec = _spec_of(source.architecture, {}, kwargs)
        own = replace(loading, cfg=None, overlay={})
        rest = {**spec.arguments, **_build_options(kwargs)}
        return _compose_onto(registered(spec.base), own, rest, spec, spec.base, None)
    backbone = _backbone(source.architecture, kwargs)
    if is_model(backbone):
        with _described_by(source.config, changed):
            check_model_keywords(model_entry(backbone), [k for k in kwargs if k not in ("base", *SLOTS)])

    def build(weights: Mapping[str, torch.Tensor] | None = None, *, by_timm: bool = False, on_meta: bool = False):
        overlay = {**loading.overlay, **({} if weights is None else {"state_dict": weights})}
        options = {k: v for k, v in kwargs.items() if not (on_meta and k == "device")}
        how = {"cache_dir": loading.hub.get("cache_dir")} if by_timm else loading.layers
        return build_explained(
            lambda: timm.create_model(
                source.architecture,
                pretrained=by_timm or weights is not None,
                pretrained_cfg=loading.cfg or source.tag or None,  # type: ignore[arg-type]
                pretrained_cfg_overlay=overlay or None,
                **how,
                **options,
            ),
            backbone,
            kwargs,
        )

    if loading.path is not None:
        checkpoint = open_checkpoint(os.fspath(loading.path), allow_pickle=loading.allow_pickle)
        return _build_loaded(build, checkpoint, kwargs, adapt)
    if source.config is not None:
        with _described_by(source.config, changed), _advised(wanted):
            model = _build_loaded(build, source.weights, kwargs, adapt) if from_name else build()
        model.zoo_multi_label = source.config.multi_label  # type: ignore[assignment] - read by zoo.predict
        if getattr(model, "instance_shape", None) == (len(source.config.feature_names),):
            set_data_config(model, feature_names=source.config.feature_names)
        for remark in source.config.remarks:
            warnings.warn(remark, stacklevel=3)
        return model
    if not from_name:
        return build()
    given = {**(loading.cfg if isinstance(loading.cfg, Mapping) else {}), **loading.overlay}
    weights, sha256, num_classes, known = registered_weights(source, given, loading.cfg)
    if known:
        kwargs = {**_still_known(known, model_entry(source.architecture).args, wanted), **kwargs}
    if num_classes is not None:  # as many as the weights have, unless the caller says otherwise
        kwargs = {"num_classes": num_classes, **kwargs}
    if weights is None:
        # timm alone knows the files of its own models and how to read them.
        if not timm.models.is_model_pretrained(f"{source.architecture}.{source.tag}".rstrip(".")):
            raise WeightsError(f"timm has no pretrained weights for {source.architecture!r}; pass pretrained=False")
        return build(by_timm=True)
    where = loading.hub if isinstance(weights, str) else {}
    checkpoint = open_checkpoint(weights, sha256=sha256, allow_pickle=loading.allow_pickle, **where)
    with _advised(wanted):
        return _build_loaded(build, checkpoint, kwargs, adapt)


def _arguments_of(source: Source, wanted: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What a config gives the constructor.

    Args:
        source: with the config.
        wanted: options that the caller gives beside, where the weights are loaded; without them, or in another network
            than theirs, nothing is said of the weights.
    """
    given = {} if source.config is None else dict(source.config.model_args)
    return _still_known(given, given, wanted)


def _still_known(
    arguments: Mapping[str, Any], own: Mapping[str, Any], wanted: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Those arguments that hold of the network that a caller wants: all, if it is what `own` makes of it."""
    gone = OF_WEIGHTS if wanted is None or not _is_as_it_was(own, wanted) else ()
    return {name: value for name, value in arguments.items() if name not in gone}


def _is_as_it_was(own: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether the options that a caller gives leave a network what its own arguments make of it."""
    return all(name in _HARMLESS or own.get(name) == value for name, value in wanted.items())


def _alone(source: Source, loading: _Loading, kwargs: Mapping[str, Any]) -> nn.Module:
    """One path of a stitched network, with its weights."""
    from zoo.weights.path_alone import load_path

    weights = loading.path
    if weights is None:
        if not loading.pretrained:
            raise ValueError("standalone=True reads the weights of one path: give pretrained=True or checkpoint_path=")
        weights = source.weights if source.config is not None else registered_weights(source, loading.overlay, None)[0]
    without = replace(loading, pretrained=False, path=None)
    rest = {k: v for k, v in kwargs.items() if k != "device"}
    adapt = ("head", "in_chans") if "num_classes" in kwargs else ("in_chans",)
    hub = loading.hub if isinstance(weights, str) and weights.startswith("hf-hub:") else {}
    how = {"adapt": adapt, "allow_pickle": loading.allow_pickle, **hub}
    return load_path(lambda: _create(source, without, rest), weights, device=kwargs.get("device"), **how)


@contextmanager
def _advised(wanted: Mapping[str, Any]) -> Iterator[None]:
    """Say of weights that do not fit with which arguments the model is wanted."""
    try:
        yield
    except MismatchError as error:
        if not wanted:
            raise
        arguments = ", ".join(f"{name}={shorten(value)}" for name, value in wanted.items())
        raise MismatchError(
            f"{error} The weights are not of a model with {cut(arguments)}: leave that out, or begin without weights, "
            "pretrained=False"
        ) from error


@contextmanager
def _described_by(config: ModelConfig | None, changed: Collection[str]) -> Iterator[None]:
    """Say of errors in this block that they are those of a config.json, unless the caller changed what it says."""
    if config is None:
        yield
        return
    arguments = ", ".join(f"{k}={shorten(v)}" for k, v in list(config.model_args.items())[:12])
    says = f"{config.origin} describes a {config.architecture}({cut(arguments)})"
    try:
        yield
    except MismatchError as error:
        if changed:
            raise
        raise MismatchError(
            f"{error} {says}, and the weights beside it are of another model: one of the two files was changed"
        ) from error
    except (ZooError, OSError):
        raise
    except Exception as error:
        if changed and isinstance(error, TypeError | ValueError):
            raise
        raise ConfigError(f"{says}, which cannot be built: {cut(str(error)) or type(error).__name__}") from error


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
        model, report = build_with_weights(
            lambda: build(on_meta=True), checkpoint, device=kwargs.get("device"), adapt=adapt
        )
        if report.adapted and hasattr(model, "uncalibrate"):
            model.uncalibrate(report.adapted)  # type: ignore[operator] - nn.Module types unknown attributes as tensors
        if kwargs.get("dtype") is not None:
            model.to(dtype=kwargs["dtype"])
    if checkpoint.source is not None:
        model.zoo_source = checkpoint.source  # type: ignore[assignment]
    if isinstance(model, Composed):
        model.zoo_composition.loaded = checkpoint.origin
    return model


def _compose_onto(
    source: Source, loading: _Loading, kwargs: Mapping[str, Any], spec: Spec, name: str, batches: Any
) -> nn.Module:
    """A base, with its weights if asked for, then the parts of the spec in their places."""
    wrapping = {k: v for k, v in kwargs.items() if k in _FEATURE_OPTIONS}
    rest = {k: v for k, v in kwargs.items() if k not in _FEATURE_OPTIONS}
    weights = name if loading.pretrained else ""

    def build(**more: Any) -> nn.Module:
        return _create(source, loading, {**rest, **more})

    if wrapping.pop("features_only", False):
        return compose_features(build, spec, wrapping, weights=weights, batches=batches)
    return compose_onto(build(), spec, weights=weights, batches=batches)


def _only_the_base_has_weights(source: Source) -> bool:
    """Whether a name stands for a composition without weights of its own."""
    if source.config is not None or not is_model(source.architecture):
        return False
    return is_composition(model_entry(source.architecture)) and weights_entry(source.architecture) is None


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


def create_module(kind: str, name: str | None = None, *args: Any, **kwargs: Any) -> nn.Module:
    """Create a registered module: `create_module("mlp", "kan", 64)` or `create_module("mlp/kan", 64)`.

    Args:
        kind: its kind, or `"kind/name"`.
        name: its name within the kind (with `"kind/name"`, the first constructor argument).
        *args: of the constructor; which ones is the promise of the kind.
        **kwargs: of the constructor.

    Raises:
        UnknownModuleError: no such module; near names are in the message.
        TypeError: no name; a keyword that the module does not take, with near and accepted names.
    """
    if not isinstance(kind, str):
        raise TypeError(f"create_module('kind/name', …) begins with the name of a module, got {kind!r}")
    if "/" not in kind and isinstance(name, str):
        entry = module_entry(name, kind)
    elif kind in KINDS:
        got = "" if name is None else f", got {name!r} for the name"
        raise TypeError(f"name the module: create_module({kind!r}, name, …) or create_module('{kind}/name', …){got}")
    else:
        entry = module_entry(kind)
        args = args if name is None else (name, *args)
    cls = entry.load()
    parameters = inspect.signature(cls).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        check_keywords(kwargs, parameters, entry.name)
    return cls(*args, **{**entry.args, **kwargs})
