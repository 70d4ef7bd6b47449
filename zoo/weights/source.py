"""Where weights come from: a dict, a file, a folder, `local-dir:`, `hf-hub:` or a checkpoint's name; always tensors
and their origin."""

from __future__ import annotations

import contextlib
import os
import re
import warnings
import zipfile
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.errors import ConfigError, CorruptFileError, MissingFileError, PickleRefusedError, WeightsError
from zoo.naming import did_you_mean
from zoo.registry import is_model, weights_entry
from zoo.weights.config import CONFIG_NAME, ModelConfig, read_config
from zoo.weights.config_checks import is_safe_name
from zoo.weights.pickles import load_pickle
from zoo.weights.safetensors_file import SafetensorsFile
from zoo.weights.state import unwrap
from zoo.weights.strict_json import read_json, shorten
from zoo.weights.verify import check_file, first_non_finite, non_finite

SAFE_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
_PREFERRED_SAFE = (SAFE_NAME, "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
_PREFERRED_PICKLES = ("pytorch_model.bin", "pytorch_model.pth", "model.pth")
_SHARD = re.compile(r"model-\d{5,}-of-\d{5,}\.safetensors")
_MAX_INDEX_BYTES = 100_000_000
_PICKLE_SUFFIXES = (".pth", ".pth.tar", ".bin", ".pt", ".ckpt")


@dataclass
class Checkpoint:
    """Tensors ready to be compared with a model.

    Attributes:
        tensors: name -> tensor; mapped from the file where it is safetensors.
        origin: the file, folder or repository, for messages.
        config: the config.json beside them, if any.
        metadata: text metadata of the files' headers (aliases of shared tensors among them).
        source: for a repository: {"repo", "revision", "commit", "sha256"}.
        known: of a checkpoint of ours, arguments of the model `architecture` that are true of these weights.
    """

    tensors: dict[str, Tensor]
    origin: str
    config: ModelConfig | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    source: dict[str, Any] | None = None
    known: Mapping[str, Any] = field(default_factory=dict)
    architecture: str = ""


def pickle_allowed(allow_pickle: bool) -> bool:
    """Whether pickles may be read: asked for in the call, or by `ZOO_ALLOW_PICKLE=1` in the environment."""
    return allow_pickle or os.environ.get("ZOO_ALLOW_PICKLE", "") not in ("", "0", "false", "no")


def open_checkpoint(
    source: Any,
    *,
    allow_pickle: bool = False,
    check_finite: bool = True,
    sha256: str | None = None,
    copy: bool = False,
    use_ema: bool = True,
    **hub: Any,
) -> Checkpoint:
    """Read weights from wherever they are.

    Args:
        source: a state dict (or a training checkpoint holding one), an `nn.Module`'s state dict, a file, a folder,
            `"local-dir:FOLDER"`, `"hf-hub:USER/REPO[@REVISION]"`, or the name of a checkpoint of ours, `"arch.tag"`
            (or `"arch"`, for its default one); a file or folder of that name comes first.
        allow_pickle: read `.pth`, `.pt`, `.bin` and `.ckpt` too, by `torch.load(weights_only=True)`; never more.
            `.safetensors` and NumPy's `.npz` need no leave.
        check_finite: refuse NaN and infinity.
        sha256: expected sum of the one file. Sums recorded in the config.json beside it are checked in any case.
        copy: read values into memory instead of mapping the file.
        use_ema: take the averaged weights of a training checkpoint, where it holds them.
        **hub: options of `zoo.weights.hub.pull` (`token`, `cache_dir`, `local_files_only`, `timeout`).

    Raises:
        MissingFileError: with the path, and near names in its folder.
        UnknownModelError: a model of ours has no checkpoint of that tag.
        WeightsError: and its kinds: corrupt, wrong sum, not finite, a pickle without leave.
        HubError: and its kinds, for `hf-hub:`.
    """
    if isinstance(source, Checkpoint):
        return source
    options: dict[str, Any] = {"allow_pickle": allow_pickle, "check_finite": check_finite}
    options |= {"copy": copy, "use_ema": use_ema}
    if isinstance(source, Mapping):
        if sha256 is not None:
            raise ValueError("sha256= is the sum of a file; a state dict in memory has none")
        tensors = unwrap(source, "the given state dict", use_ema=use_ema)
        if check_finite and (bad := first_non_finite(tensors)):
            raise non_finite(bad, "the given state dict")
        return Checkpoint(tensors, "the given state dict")
    if not isinstance(source, str | os.PathLike):
        raise TypeError(
            f"weights come from a dict of tensors, a path, a checkpoint's name, 'local-dir:...' or 'hf-hub:...', got "
            f"{type(source).__name__}"
        )
    text = os.fspath(source)
    if isinstance(source, str):
        scheme, _, rest = source.partition(":")
        if scheme.lower() in ("hf-hub", "hf_hub") and rest:
            return _from_hub(rest, sha256, hub, options)
        if scheme.lower() == "local-dir" and rest:
            text = rest
    path = Path(text)
    if path.is_dir():
        return open_folder(path, sha256=sha256, **options)
    if path.is_file():
        return open_file(path, sha256=sha256 or _recorded_beside(path), **options)
    if text is source and is_model(text.partition(".")[0]) and path.suffix not in (".safetensors", *_PICKLE_SUFFIXES):
        return _from_catalogue(text, sha256, hub, options)
    raise missing_file(path)


def _from_catalogue(name: str, sha256: str | None, hub: dict[str, Any], options: dict[str, Any]) -> Checkpoint:
    """The checkpoint of ours of that name, or of that model."""
    row = weights_entry(name)
    if row is None:
        raise WeightsError(f"there are no pretrained weights for {name!r}, and no file or folder of that name")
    if row.path is None:
        found = _from_hub(f"{row.repo}@{row.revision}", sha256 or row.sha256 or None, hub, options)
    else:
        found = open_file(row.path, sha256=sha256 or row.sha256 or None, **options)
    found.known, found.architecture = row.known, row.arch
    return found


def missing_file(path: Path) -> MissingFileError:
    """The error for a path that is not there: names it, and near names in its folder."""
    folder = path.parent
    if not folder.is_dir():
        hint = f"; its folder {folder} does not exist either"
        if len(path.parts) == 2 and not path.is_absolute():
            hint += f" (for a repository on the Hub write 'hf-hub:{path.as_posix()}')"
    else:
        names = [p.name for p in folder.iterdir()]
        hint = did_you_mean(path.name, names) or f"; {folder} holds {', '.join(sorted(names)[:8]) or 'nothing'}"
        if len(path.parts) == 1 and _is_timm_name(path.name):
            hint = f"; timm's weights are those of zoo.create_model({path.name!r}, pretrained=True).state_dict()"
    return MissingFileError(f"no weights file {str(path)!r}{hint}")


def _is_timm_name(name: str) -> bool:
    from timm.models import is_model_pretrained

    return is_model_pretrained(name)


def _from_hub(rest: str, sha256: str | None, hub: dict[str, Any], options: dict[str, Any]) -> Checkpoint:
    from zoo.weights.hub import pull, split_repo

    repo, revision = split_repo(rest)
    snapshot = pull(repo, revision, allow_pickle=options["allow_pickle"], **hub)
    checkpoint = open_folder(snapshot.folder, sha256=sha256, origin=snapshot.origin, **options)
    checkpoint.source = snapshot.source
    return checkpoint


def open_folder(folder: str | os.PathLike[str], *, origin: str | None = None, **options: Any) -> Checkpoint:
    """Read the weights and, where there is one, the config.json of a folder.

    safetensors only: `model.safetensors`, else the shards of `model.safetensors.index.json`, else the first by name
    (with a warning when there are several). Pickles are looked at only where allowed and nothing else is there.
    """
    folder = Path(folder)
    where = origin or str(folder)
    config = None if _names_no_model(folder / CONFIG_NAME, where) else read_config(folder, origin=origin)
    allow_pickle = options.get("allow_pickle", False)
    files = find_weights(folder, where, allow_pickle=allow_pickle)
    if len(files) > 1 or files[0].name == INDEX_NAME:
        checkpoint = _open_shards(folder, where, config, options)
    else:
        _require_recorded(config, {files[0].name}, where)
        sha256 = options.pop("sha256", None) or _recorded(config, files[0].name)
        label = f"{files[0].name} of {origin}" if origin else str(files[0])
        checkpoint = open_file(files[0], origin=label, sha256=sha256, **options)
    checkpoint.config = config
    return checkpoint


def _names_no_model(path: Path, where: str) -> bool:
    """There is no config.json, or it is another program's: an object without an architecture."""
    if not path.is_file():
        return True
    data = read_json(path, f"{path.name} of {where}")
    return isinstance(data, dict) and not {"architecture", "zoo"} & data.keys()


def _recorded(config: ModelConfig | None, name: str) -> str | None:
    entry = config.files.get(name) if config else None
    return entry.get("sha256") if entry else None


def _require_recorded(config: ModelConfig | None, names: Collection[str], where: str) -> None:
    """Refuse weights files that are not the ones whose sums the config records."""
    recorded = {name for name in (config.files if config else {}) if name.endswith(".safetensors")}
    if not recorded or recorded == set(names):
        return
    problems = [f"records {', '.join(sorted(recorded - set(names))[:5])}"] if recorded - set(names) else []
    problems += [f"does not record {', '.join(sorted(set(names) - recorded)[:5])}"] if set(names) - recorded else []
    raise CorruptFileError(
        f"the {CONFIG_NAME} of {where} {' and '.join(problems)}, and the weights there are "
        f"{', '.join(sorted(names)[:5])}: fetch all files again, or save the model again"
    )


def _recorded_beside(path: Path) -> str | None:
    """The sum that a config.json beside a file records for it; a config that cannot be read records none."""
    config = path.parent / CONFIG_NAME
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        sha256 = read_json(config, str(config))["zoo"]["files"][path.name]["sha256"]
        return sha256 if isinstance(sha256, str) else None
    return None


def find_weights(folder: Path, where: str, *, allow_pickle: bool) -> list[Path]:
    """The weights file of a folder, or the index of its shards.

    Raises:
        MissingFileError: there is none, or there are shards without their index.
        PickleRefusedError: there are only pickles and they are not allowed.
    """
    names = sorted(p.name for p in folder.iterdir() if p.is_file())
    return [folder / choose_weights(names, where, allow_pickle=allow_pickle)]


def choose_weights(names: list[str], where: str, *, allow_pickle: bool) -> str:
    """Which of a folder's or repository's files holds the weights; errors as in `find_weights`."""
    for preferred in (SAFE_NAME, INDEX_NAME, *_PREFERRED_SAFE):
        if preferred in names:
            return preferred
    safe = sorted(n for n in names if n.endswith(".safetensors"))
    if shards := [n for n in safe if _SHARD.fullmatch(n) and not n.endswith("-00001.safetensors")]:
        raise MissingFileError(
            f"{where} lacks {INDEX_NAME}, which says what is in its shards ({', '.join(shards[:3])}"
            f"{', …' if len(shards) > 3 else ''}); fetch the folder again, or save the model again"
        )
    if safe:
        return _first(safe, where)
    pickles = [n for n in names if n.endswith(_PICKLE_SUFFIXES)]
    if not pickles:
        raise MissingFileError(f"no weights in {where}: expected {SAFE_NAME}, found {', '.join(names) or 'no file'}")
    if not pickle_allowed(allow_pickle):
        raise _pickle_refused(f"{where} holds its weights only as {', '.join(pickles)}")
    for preferred in _PREFERRED_PICKLES:
        if preferred in pickles:
            return preferred
    return _first(pickles, where)


def _first(names: list[str], where: str) -> str:
    if len(names) > 1:
        warnings.warn(f"{where} has several weights files ({', '.join(names)}); {names[0]} is read", stacklevel=2)
    return names[0]


def _pickle_refused(what: str) -> PickleRefusedError:
    return PickleRefusedError(
        f"{what}: a pickle can run code when it is opened, so it is refused. If you trust it, convert it once "
        f"(zoo convert IN OUT.safetensors --model NAME --allow-pickle), or pass allow_pickle=True (--allow-pickle, or "
        f"ZOO_ALLOW_PICKLE=1 in the environment; it is then read with torch.load(weights_only=True))"
    )


def _open_shards(folder: Path, where: str, config: ModelConfig | None, options: dict[str, Any]) -> Checkpoint:
    if options.pop("sha256", None) is not None:
        raise ValueError(f"{where} is sharded: one sha256= cannot be the sum of several files")
    homes = read_index(folder / INDEX_NAME, where)
    check_shards([p.name for p in folder.iterdir()], homes, where)
    _require_recorded(config, set(homes.values()), where)
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    for name in sorted(set(homes.values())):
        part = open_file(folder / name, origin=f"{name} of {where}", sha256=_recorded(config, name), **options)
        tensors |= part.tensors
        metadata |= part.metadata
    if tensors.keys() != homes.keys():
        differing = sorted(tensors.keys() ^ homes.keys())
        raise CorruptFileError(f"{INDEX_NAME} of {where} and its shards disagree about {', '.join(differing[:5])}")
    return Checkpoint(tensors, where, metadata=metadata)


def read_index(path: Path, where: str) -> dict[str, str]:
    """tensor name -> shard, from the index of a sharded checkpoint; a shard is a plain name in the same folder."""
    content = read_json(path, f"{path.name} of {where}", limit=_MAX_INDEX_BYTES)
    pairs = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(pairs, dict) or not pairs:
        raise ConfigError(f"{path.name} of {where} is not an index of shards: it has no 'weight_map' with names")
    for name in pairs.values():
        if not is_safe_name(name) or "/" in name or not name.endswith(".safetensors"):
            raise ConfigError(
                f"{path.name} of {where} names the shard {shorten(name)}, which is not a safetensors file beside it"
            )
    return pairs


def check_shards(names: Collection[str], homes: Mapping[str, str], where: str) -> None:
    """Refuse a folder, or the list of a repository's files, that lacks a shard of its index or has more.

    Raises:
        CorruptFileError: names the shards.
    """
    wanted, there = set(homes.values()), set(names)
    if missing := sorted(wanted - there):
        raise CorruptFileError(
            f"{where} lacks {', '.join(missing[:5])}, which its {INDEX_NAME} names; fetch the folder again"
        )
    if extra := sorted(n for n in there - wanted if _SHARD.fullmatch(n)):
        raise CorruptFileError(
            f"{where} holds {', '.join(extra[:5])}, which its {INDEX_NAME} does not name: shards of two models, or an "
            f"index of another; fetch the folder again"
        )


def open_file(
    path: str | os.PathLike[str],
    *,
    origin: str | None = None,
    sha256: str | None = None,
    allow_pickle: bool = False,
    check_finite: bool = True,
    copy: bool = False,
    use_ema: bool = True,
) -> Checkpoint:
    """Read one weights file; arguments as in `open_checkpoint`."""
    path = Path(path)
    origin = origin or str(path)
    if path.name.endswith(".safetensors"):
        file = SafetensorsFile(path)
        check_file(file, check_finite=check_finite, sha256=sha256, origin=origin)
        return Checkpoint(unwrap(file.load(copy=copy), origin, use_ema=False), origin, metadata=file.metadata)
    if not path.name.endswith((".npz", *_PICKLE_SUFFIXES)):
        raise WeightsError(
            f"{origin} is not a weights file: expected .safetensors or .npz (with allow_pickle=True also one of "
            f"{', '.join(_PICKLE_SUFFIXES)})"
        )
    arrays = path.name.endswith(".npz")
    if not arrays and not pickle_allowed(allow_pickle):
        raise _pickle_refused(origin)
    if sha256 is not None:
        from zoo.weights.verify import check_sha256

        check_sha256(path, sha256, origin)
    tensors = unwrap((_load_arrays if arrays else load_pickle)(path, origin), origin, use_ema=use_ema)
    if check_finite and (bad := first_non_finite(tensors)):
        raise non_finite(bad, origin)
    return Checkpoint(tensors, origin)


def _load_arrays(path: Path, origin: str) -> dict[str, Tensor]:
    """The arrays of NumPy's `.npz`; objects, which would be pickles, are refused."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except (OSError, EOFError, ValueError, TypeError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise CorruptFileError(f"{origin} cannot be read as arrays of numbers: {error}") from error
