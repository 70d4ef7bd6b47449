"""Is a published model what it says? Every check, one line each, going on after what fails."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.errors import (
    AccessDeniedError,
    CorruptFileError,
    HubUnavailableError,
    RepoNotFoundError,
    UnknownModelError,
    ZooError,
)
from zoo.factory import create_model
from zoo.naming import did_you_mean, known_keywords
from zoo.registry import WeightsEntry, default_registry, is_model, list_pretrained, weights_entry
from zoo.sources import known_architecture
from zoo.weights.card import existing_license
from zoo.weights.config import CONFIG_NAME, ModelConfig, read_config
from zoo.weights.harmless import is_unsafe
from zoo.weights.hub import Fetched, fetch_each, pull, split_repo
from zoo.weights.safetensors_file import SafetensorsFile
from zoo.weights.source import INDEX_NAME, check_shards, choose_weights, missing_file, read_index
from zoo.weights.strict_json import cut
from zoo.weights.verify import scan, sha256_of

#: What a check can end with. Only "failed" makes a verification fail.
STATUSES = ("ok", "failed", "not recorded", "warning", "skipped")
CARD_NAME = "README.md"
_CARD_BYTES = 5_000_000


def _line(text: str) -> str:
    return cut(" ".join(text.split()), 500)


@dataclass(frozen=True)
class Check:
    """One line of a verification.

    Attributes:
        name: what was looked at, e.g. `"sha256 model.safetensors"`.
        status: one of `STATUSES`; "skipped" names in `detail` what stood in the way.
        detail: what was found.
    """

    name: str
    status: str
    detail: str = ""


@dataclass
class Verification:
    """What was checked of a published model.

    Attributes:
        source: what was given.
        origin: what it stands for: a folder, a file, or a repository with its commit.
        checks: every check, in the order in which they were made.
        files: name -> {"size", "sha256"} of the weights, where they could be read.
    """

    source: str
    origin: str
    checks: list[Check] = field(default_factory=list)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failed

    @property
    def failed(self) -> list[Check]:
        """The checks that failed."""
        return [check for check in self.checks if check.status == "failed"]

    def __str__(self) -> str:
        end = f"{len(self.failed)} of {len(self.checks)} checks failed" if self.failed else "nothing failed"
        width = max((len(check.name) for check in self.checks), default=0)
        rows = [f"  {check.status:<13} {check.name:<{width}}  {check.detail}".rstrip() for check in self.checks]
        return "\n".join([self.origin, *rows, end])

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        rows = [{"name": c.name, "status": c.status, "detail": c.detail} for c in self.checks]
        return {"source": self.source, "origin": self.origin, "ok": self.ok, "checks": rows, "files": self.files}

    def add(self, name: str, status: str, detail: str = "") -> bool:
        """Append a check; returns whether it is "ok"."""
        self.checks.append(Check(name, status, _line(detail)))
        return status == "ok"

    def attempt(self, name: str, work: Callable[[], str]) -> bool:
        """Append the outcome of `work`: "ok" with what it returns, or "failed" with what it raises."""
        try:
            return self.add(name, "ok", work())
        except (ZooError, ValueError, TypeError, OSError) as error:
            return self.add(name, "failed", str(error) or type(error).__name__)


@known_keywords
def verify(
    source: str | os.PathLike[str],
    *,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    timeout: float = 10.0,
    progress: Callable[[str], None] | None = None,
) -> Verification:
    """Check a published model: config, files, sums, header, values, that it loads, its card, and what could run code.

    Nothing that comes with the model is executed, no pickle is opened, and a check that fails does not end the others.

        print(zoo.verify("hf-hub:user/repo@v1"))
        assert zoo.verify("runs/mine").ok

    Args:
        source: `"hf-hub:user/repo[@revision]"` or `"user/repo[@revision]"`; a folder, with or without `local-dir:`
            (of a training run, its best model); a `.safetensors` file; or the name of a checkpoint, `"arch.tag"`.
        token, cache_dir, local_files_only, timeout: as in `zoo.create_model` and `zoo.weights.hub.pull`.
        progress: is given a line before whatever may take long.

    Returns:
        A `Verification`: `ok`, `checks`, `files`; its text is a table.

    Raises:
        MissingFileError: no such file or folder.
        UnknownModelError: no such checkpoint.
        RepoNotFoundError, RevisionNotFoundError, AccessDeniedError, HubUnavailableError: there is nothing to look at.
    """
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"verify takes a repository, a folder, a file or a checkpoint's name, got {source!r}")
    text, tell = os.fspath(source), progress or (lambda line: None)
    scheme, _, rest = text.partition(":")
    if scheme.lower() in ("hf-hub", "hf_hub") and rest:
        return _verify_repo(text, rest, token, cache_dir, local_files_only, timeout, tell)
    path = Path(rest if scheme.lower() == "local-dir" and rest else text)
    if path.is_dir():
        return _verify_folder(text, path, tell)
    if path.is_file() and path.name == CONFIG_NAME:
        return _verify_folder(text, path.parent, tell)
    if path.is_file():
        return _verify_file(text, path, tell)
    is_name = isinstance(source, str) and scheme.lower() != "local-dir" and not text.startswith((".", "/", "~"))
    if is_name and text.partition("@")[0].count("/") == 1:
        try:
            return _verify_repo(text, text, token, cache_dir, local_files_only, timeout, tell)
        except (RepoNotFoundError, AccessDeniedError, HubUnavailableError) as error:
            near = did_you_mean(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else ""
            raise type(error)(f"{error}. There is no folder or file {text!r} here either{near or '.'}") from error
    if is_name and "/" not in text and path.suffix != ".safetensors":
        hub = {"token": token, "cache_dir": cache_dir, "local_files_only": local_files_only, "timeout": timeout}
        return _verify_checkpoint(text, hub, tell)
    raise missing_file(path)


def _verify_checkpoint(name: str, hub: dict[str, Any], tell: Callable[[str], None]) -> Verification:
    """A checkpoint of our manifest."""
    row = weights_entry(name) if is_model(name.partition(".")[0]) else None
    if row is None:
        hint = did_you_mean(name, [*list_pretrained(), *default_registry().names()]) or "."
        raise UnknownModelError(
            f"the zoo has no checkpoint {name!r}{hint} A repository is 'user/repo' (timm's own are 'timm/NAME.TAG'), "
            f"a folder its path"
        )
    if row.path is None:
        return _verify_repo(name, f"{row.repo}@{row.revision}", hub["token"], hub["cache_dir"], False, 10.0, tell, row)
    result = Verification(name, f"{row.arch}.{row.tag} ({row.path})")
    result.add("config", "ok", f"{row.arch} of the catalogue")
    intact = _check_weights(result, {row.path.name: row.path}, {row.path.name: (row.size, row.sha256)}, tell)
    _check_loads(result, f"{row.arch}.{row.tag}", intact, tell)
    result.add("licence", "ok" if row.licence else "not recorded", row.licence)
    return result


def _verify_file(source: str, path: Path, tell: Callable[[str], None]) -> Verification:
    """One weights file, and what a config.json beside it records of it."""
    result = Verification(source, str(path))
    if is_unsafe(path.name) or path.suffix != ".safetensors":
        result.add("weights", "failed", f"{path.name} is not a safetensors file; it was not opened")
        return result
    config = None
    if (path.parent / CONFIG_NAME).is_file():
        config = _check_config(result, path.parent, None)
    _check_weights(result, {path.name: path}, _recorded(config, [path.name]), tell)
    result.add("loads", "skipped", "a file alone does not say which model it is of; give its folder")
    return result


def _verify_folder(source: str, path: Path, tell: Callable[[str], None]) -> Verification:
    """A saved model, or the best one of a training run."""
    folder = next((f for f in (path, path / "best", path / "model") if (f / CONFIG_NAME).is_file()), path)
    result = Verification(source, str(folder))
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    _verify_files(result, folder, {name: folder / name for name in names}, names, None, tell)
    return result


def _verify_repo(
    source: str,
    repo: str,
    token: str | bool | None,
    cache_dir: str | os.PathLike[str] | None,
    local_files_only: bool,
    timeout: float,
    tell: Callable[[str], None],
    row: WeightsEntry | None = None,
) -> Verification:
    """A repository at one commit, its files checked against the Hub's own record as they come."""
    from huggingface_hub import constants

    split_repo(repo)
    options: dict[str, Any] = {"token": token, "cache_dir": cache_dir, "timeout": timeout}
    if local_files_only or constants.is_offline_mode():
        snapshot = pull(repo, local_files_only=True, everything=True, **options)
        result = Verification(source, f"{snapshot.origin}, from the cache")
        result.add("sums of the Hub", "skipped", "offline: only the names of the cached files were compared")
        paths = {name: snapshot.folder / name for name in snapshot.files}
        _verify_files(result, snapshot.folder, paths, snapshot.files, None, tell, cached=True)
        return result
    tell(f"Listing {repo} ...")
    fetched = fetch_each(repo, tell=lambda line: tell(f"Fetching {line}"), **options)
    result = Verification(source, f"{fetched.repo}@{fetched.revision} (commit {fetched.commit})")
    for name, error in fetched.errors.items():
        kind = "sum of the Hub" if isinstance(error, CorruptFileError) else "fetch"
        result.add(f"{kind} {name}", "failed", str(error))
    if fetched.paths:
        without = sorted(name for name in fetched.paths if name not in fetched.sums)
        found = f"{len(fetched.paths) - len(without)} of {len(fetched.sizes)} files compared with the Hub's record"
        result.add(
            "sums of the Hub", "not recorded" if without else "ok", found + (f"; none for {without}" * bool(without))
        )
    folder = _snapshot_folder(fetched)
    if folder is not None:
        _verify_files(result, folder, fetched.paths, list(fetched.sizes), fetched, tell)
    if row is not None:
        for name, path in fetched.paths.items():
            if name == row.file and row.sha256:
                real = sha256_of(path)
                result.add(f"manifest {name}", "ok" if real == row.sha256 else "failed", f"sha256 {real}")
    return result


def _snapshot_folder(fetched: Fetched) -> Path | None:
    for name, path in fetched.paths.items():
        return path.parents[name.count("/")]
    return None


def _verify_files(
    result: Verification,
    folder: Path,
    paths: dict[str, Path],
    names: Iterable[str],
    fetched: Fetched | None,
    tell: Callable[[str], None],
    *,
    cached: bool = False,
) -> None:
    """All checks of a folder's files; `names` may hold more than what is here (`paths`).

    With `cached` they are those of a repository that happen to be in the cache: others are not missing.
    """
    origin = None if fetched is None else f"{fetched.repo}@{fetched.revision} (commit {fetched.commit[:8]})"
    config = _check_config(result, folder, origin)
    names = sorted(names)
    weights = _check_files(result, folder, names, origin or str(folder))
    here = {name: paths[name] for name in weights if name in paths}
    recorded = _recorded(config, weights)
    extra = sorted(n for n in (config.files if config else {}) if n not in names)
    for name in extra:
        where = "in the cache" if cached else "there"
        result.add(
            f"file {name}", "skipped" if cached else "failed", f"{CONFIG_NAME} records it, and it is not {where}"
        )
    other = {n: p for n, p in paths.items() if config and n in config.files and n not in weights}
    for name, path in other.items():
        _check_sum(result, name, path, *_recorded(config, [name])[name])
    intact = _check_weights(result, here, recorded, tell) and len(here) == len(weights) > 0 and (cached or not extra)
    if config is not None:
        _check_loads(result, f"local-dir:{folder}", intact, tell)
    else:
        result.add("loads", "skipped", f"there is no {CONFIG_NAME} that says what to build")
    _check_card(result, folder, config, cached)
    _check_harmless(result, names, cached)


def _check_config(result: Verification, folder: Path, origin: str | None) -> ModelConfig | None:
    config: list[ModelConfig] = []

    def read() -> str:
        config.append(read_config(folder, origin=origin))
        architecture = known_architecture(config[0])
        classes = config[0].num_classes
        return f"{architecture}{f', {classes} classes' if classes is not None else ''}"

    result.attempt("config", read)
    for remark in config[0].remarks if config else ():
        result.add("config", "warning", remark)
    return config[0] if config else None


def _check_files(result: Verification, folder: Path, names: list[str], where: str) -> list[str]:
    """Names of the weights files; appends the check that they are all there."""
    weights: list[str] = []

    def choose() -> str:
        top = [name for name in names if "/" not in name]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            chosen = choose_weights(top, where, allow_pickle=False)
        weights.append(chosen)
        if chosen == INDEX_NAME:
            homes = read_index(folder / INDEX_NAME, where)
            weights[:] = sorted(set(homes.values()))
            check_shards(top, homes, where)
        note = f"; {caught[0].message}" if caught else ""
        return f"{len(names)} files; weights in {', '.join(weights[:4])}{' …' if len(weights) > 4 else ''}{note}"

    result.attempt("files", choose)
    return weights


def _recorded(config: ModelConfig | None, names: Iterable[str]) -> dict[str, tuple[int | None, str | None]]:
    """name -> (size, sha256) that a config records."""
    files = config.files if config else {}
    return {name: (files.get(name, {}).get("size"), files.get(name, {}).get("sha256")) for name in names}


def _check_sum(result: Verification, name: str, path: Path, size: int | None, sha256: str | None) -> bool:
    real = path.stat().st_size
    good = True
    if size is not None and size != real:
        good = result.add(f"size {name}", "failed", f"{real:,} bytes, recorded are {size:,}")
    if sha256 is None:
        result.add(f"sha256 {name}", "not recorded", sha256_of(path))
        return good
    digest = sha256_of(path)
    if digest == sha256.lower():
        return result.add(f"sha256 {name}", "ok", digest) and good
    return result.add(f"sha256 {name}", "failed", f"real {digest}, recorded {sha256}")


def _check_weights(
    result: Verification,
    paths: dict[str, Path],
    recorded: dict[str, tuple[int | None, str | None]],
    tell: Callable[[str], None],
) -> bool:
    """Sums, headers and values of weights files; whether all are as they should be."""
    intact = True
    for name, path in paths.items():
        tell(f"Reading {name} ...")
        headers: list[SafetensorsFile] = []

        def header(path: Path = path, headers: list[SafetensorsFile] = headers) -> str:
            headers.append(SafetensorsFile(path))
            return f"{len(headers[0].infos)} tensors, {headers[0].size:,} bytes"

        def finite(headers: list[SafetensorsFile] = headers) -> str:
            bad = scan(headers[0], sha256=True).non_finite
            if bad is not None:
                raise ValueError(f"tensor {bad!r} holds NaN or infinite values")
            return "every value is finite"

        readable = result.attempt(f"header {name}", header)
        intact &= readable
        if readable:
            intact &= result.attempt(f"values {name}", finite)
        else:
            result.add(f"values {name}", "skipped", "its header cannot be read")
        intact &= _check_sum(result, name, path, *recorded.get(name, (None, None)))
        result.files[name] = {"size": path.stat().st_size, "sha256": sha256_of(path)}
    return intact


def _check_loads(result: Verification, name: str, intact: bool, tell: Callable[[str], None]) -> None:
    if not intact:
        result.add("loads", "skipped", "the weights are not as they should be")
        return
    tell("Building the model ...")

    def load() -> str:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = create_model(name, pretrained=True)
        for warning in caught:
            said = any(check.detail == _line(str(warning.message)) for check in result.checks)
            if issubclass(warning.category, UserWarning) and not said:
                result.add("loads", "warning", str(warning.message))
        return f"{type(model).__name__}, {sum(p.numel() for p in model.parameters()):,} parameters"

    result.attempt("loads", load)


def _check_card(result: Verification, folder: Path, config: ModelConfig | None, cached: bool) -> None:
    path = folder / CARD_NAME
    stated = config.pretrained_cfg.get("license") if config else None
    if not path.is_file():
        if cached:
            result.add("card", "skipped", f"{CARD_NAME} is not in the cache; whether there is one, the Hub would say")
        else:
            result.add("card", "not recorded", f"there is no {CARD_NAME}")
        result.add("licence", "ok" if stated else "not recorded", f"{stated} (in {CONFIG_NAME})" if stated else "")
        return
    found: list[str | None] = []

    def read() -> str:
        with open(path, "rb") as file:
            text = file.read(_CARD_BYTES).decode("utf-8")
        found.append(existing_license(text, CARD_NAME))
        return f"{CARD_NAME}, {len(text):,} characters"

    if result.attempt("card", read):
        licence = found[0] or stated
        result.add("licence", "ok" if licence else "not recorded", str(licence or ""))
        if found[0] and stated and found[0] != stated:
            result.add("licence", "warning", f"the card says {found[0]}, {CONFIG_NAME} says {stated}")


def _check_harmless(result: Verification, names: list[str], cached: bool) -> None:
    """Files that can hold code are listed; none of them was opened."""
    if unsafe := [name for name in names if is_unsafe(name)]:
        more = f" and {len(unsafe) - 8} more" if len(unsafe) > 8 else ""
        result.add("no pickle, no code", "warning", f"never opened: {', '.join(unsafe[:8])}{more}")
    else:
        result.add("no pickle, no code", "ok", "among the files in the cache" if cached else "")


__all__ = ["STATUSES", "Check", "Verification", "verify"]
