"""What a model's name stands for: an architecture, and where its weights are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import timm

from zoo.composition import BUILD_OPTIONS, flat_spec
from zoo.composition import NAME as COMPOSITE
from zoo.errors import ConfigError, MissingFileError, UnknownModelError, UnknownModuleError, WeightsError
from zoo.models.arguments import check_values
from zoo.naming import did_you_mean
from zoo.registry import (
    default_registry,
    is_model,
    list_pretrained,
    model_entry,
    split_model_name_tag,
    weights_entry,
)
from zoo.weights import ModelConfig, open_checkpoint, read_config
from zoo.weights.config import CONFIG_NAME
from zoo.weights.config_checks import check_requirements

_SCHEMES = {"hf-hub": "hf-hub", "hf_hub": "hf-hub", "local-dir": "local-dir"}
#: Options of whoever loads a model, which no published file may decide.
_OF_THE_CALLER = {
    *BUILD_OPTIONS,
    "allow_pickle",
    "cache_dir",
    "checkpoint_path",
    "exportable",
    "init_batches",
    "local_files_only",
    "no_jit",
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "scriptable",
    "standalone",
    "token",
}


#: Arguments of constructors that say something of weights rather than of a network.
OF_WEIGHTS = ("top1",)


@dataclass
class Source:
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


def resolve(name: Any, hub: Mapping[str, Any], allow_pickle: bool) -> Source:
    """Parse a model name; a folder's or repository's config is read here."""
    if not isinstance(name, str):
        raise TypeError(f"model name must be a str, got {name!r}")
    scheme, colon, rest = name.partition(":")
    if not colon:
        return registered(name)
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
            raise no_folder(rest)
        if not (folder / CONFIG_NAME).is_file() and (folder / "best" / CONFIG_NAME).is_file():
            folder /= "best"  # of a training run
        config = read_config(folder)
        return Source(known_architecture(config), config=config, weights=f"local-dir:{folder}")
    checkpoint = open_checkpoint(f"hf-hub:{rest}", allow_pickle=allow_pickle, **hub)
    if checkpoint.config is None:
        raise WeightsError(
            f"{rest!r} has no config.json that names a model, so nothing says which one its weights are for; "
            f"create the model by name and load them with zoo.load_weights(model, 'hf-hub:{rest}')"
        )
    return Source(known_architecture(checkpoint.config), config=checkpoint.config, weights=checkpoint)


def no_folder(given: str) -> MissingFileError:
    """What to raise for a text that should be the folder of a saved model and is none: with near ones beside it."""
    folder = Path(given)
    if folder.is_file():
        return MissingFileError(f"{given!r} is a file, not the folder of a saved model{_use_of_file(folder)}")
    near = did_you_mean(folder.name, [p.name for p in folder.parent.iterdir()] if folder.parent.is_dir() else [])
    return MissingFileError(f"there is no folder {given!r}{near}")


def _use_of_file(path: Path) -> str:
    """What to do with a file that was given as a folder."""
    if (path.parent / CONFIG_NAME).is_file():
        return f"; the folder is 'local-dir:{path.parent}'"
    if path.suffix == ".safetensors":
        return (
            f". Weights alone do not say which model they are of: zoo.create_model(NAME, "
            f"checkpoint_path={str(path)!r}), or zoo.load_weights(model, {str(path)!r})"
        )
    return ""


def registered(name: str) -> Source:
    architecture, tag = split_model_name_tag(name)
    if is_model(architecture):
        entry = model_entry(name)
        if tag:
            weights_entry(name)
        return Source(entry.name, tag)
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
    return Source(architecture, tag)


def known_architecture(config: ModelConfig) -> str:
    """The architecture that a config names, if we or timm have it."""
    name = config.architecture
    check_requirements(config.zoo, config.origin)
    if reserved := sorted(config.model_args.keys() & _OF_THE_CALLER):
        raise ConfigError(f"{config.origin} sets {', '.join(reserved)}, which only whoever loads the model can say")
    try:
        check_values(config.model_args)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{config.origin}: model_args: {error}") from error
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
    try:
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


class Registered(NamedTuple):
    """Where weights are.

    Attributes:
        weights: a path, a repository or tensors; None for weights that timm knows.
        sha256: of the file, if known.
        num_classes: what its classifier predicts, if known.
        known: arguments that are true of these weights.
    """

    weights: Any
    sha256: str | None = None
    num_classes: int | None = None
    known: Mapping[str, Any] = MappingProxyType({})


def registered_weights(
    source: Source, given: Mapping[str, Any], pretrained_cfg: str | Mapping[str, Any] | None
) -> Registered:
    """Weights from the caller's configuration, else from our manifest; none for timm's own."""
    for key in ("state_dict", "file"):
        if given.get(key) is not None:
            return Registered(given[key])
    if given.get("hf_hub_id"):
        return Registered(f"hf-hub:{given['hf_hub_id']}")
    if not is_model(source.architecture):
        return Registered(None)
    tag = source.tag or (pretrained_cfg if isinstance(pretrained_cfg, str) else "")
    row = weights_entry(f"{source.architecture}.{tag}" if tag else source.architecture)
    if row is None:
        raise WeightsError(
            f"there are no pretrained weights for {source.architecture!r}{_with_weights(source.architecture)} "
            f"Pass pretrained=False, or checkpoint_path= with weights of your own"
        )
    where = f"hf-hub:{row.repo}@{row.revision}" if row.path is None else os.fspath(row.path)
    return Registered(where, row.sha256 or None, row.num_classes, row.known)


def known_of(source: Source) -> dict[str, Any]:
    """What is said of the weights that a name stands for, as arguments of the constructor."""
    if source.config is not None:
        return {key: value for key, value in source.config.model_args.items() if key in OF_WEIGHTS}
    if not is_model(source.architecture):
        return {}
    row = weights_entry(f"{source.architecture}.{source.tag}".rstrip("."))
    return {} if row is None else dict(row.known)


def _with_weights(name: str) -> str:
    """A hint that names models with weights: of the same family, else any of ours."""
    family = model_entry(name).family.name
    same = [n for n in list_pretrained() if model_entry(n).family.name == family] or list_pretrained()
    return f"; these have some: {', '.join(repr(n) for n in same)}." if same else "."
