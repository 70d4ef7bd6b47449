"""Saving and publishing a model, and the proof that what was written is the model."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zoo.composition import Composed
from zoo.errors import HubError, HubUnavailableError, MismatchError
from zoo.factory import create_model
from zoo.files import write_text
from zoo.models.data_config import words_of
from zoo.naming import did_you_mean, known_keywords
from zoo.registry import is_model, weights_entry
from zoo.sizes import byte_count
from zoo.weights.card import existing_license, given_card, is_untouched, make_card
from zoo.weights.commit import PushResult, commit_folder
from zoo.weights.compare import require_same, require_same_tensors
from zoo.weights.config import CONFIG_NAME, parse_config, read_config
from zoo.weights.description import describe, write_config
from zoo.weights.facts import data_facts, metric_rows
from zoo.weights.hub import Snapshot, pull, split_repo
from zoo.weights.licences import check_licence
from zoo.weights.remote import check_ref, full_repo_id, read_text
from zoo.weights.save import new_folder
from zoo.weights.shards import MAX_SHARD_SIZE, is_weights_name, save_sharded
from zoo.weights.source import open_checkpoint
from zoo.weights.space import APP_NAME, is_ours, push_space

CARD_NAME = "README.md"


@known_keywords
def save_pretrained(
    model: nn.Module,
    folder: str | os.PathLike[str],
    *,
    metrics: Any = None,
    train_data: Any = None,
    training: Mapping[str, Any] | None = None,
    license: str | None = None,
    card: str | os.PathLike[str] | None = None,
    max_shard_size: int | str = MAX_SHARD_SIZE,
    verify: bool = True,
) -> Path:
    """Save a model so that `create_model("local-dir:FOLDER")` gives it back, bit for bit.

    Weights are saved in the type that they have. Like timm, `create_model` builds in float32 and gives them back with
    equal values in float32, unless it is told `dtype=`. A tensor that has several names is written once; in the loaded
    model each name has its values, and they are one tensor again only where the constructor makes them one.

    Writes `model.safetensors`, `config.json` (which timm reads, too) and, when a licence is known, `README.md`. Weights
    above `max_shard_size` become several files with an index, which timm does not read. The folder appears whole or not
    at all; one that holds an earlier saved model is replaced, and its card's text kept.

    Args:
        model: made by `zoo.create_model` or `timm.create_model`; compiled and distributed wrappers are seen through.
        folder: where to; must not hold anything else.
        metrics: name -> number, with `split`, `samples`, `dataset` if known, or a list of rows with `name` and `value`.
        train_data: name of the training data, or a mapping with `name`, `licence`, `url`, ...
        training: facts about the training (JSON values).
        license: licence of the weights, one of the Hub's identifiers.
        card: text of the card, instead of the generated one; a `pathlib.Path` is the file that holds it.
        max_shard_size: largest size of a weights file, in bytes or as `"500MB"`, `"5GB"`.
        verify: load the result again and compare tensors and an output bit for bit, before the folder appears.

    Returns:
        The folder.

    Raises:
        ConfigError: the model cannot be described (not made by name, or an argument that JSON cannot hold).
        NonFiniteWeightsError: NaN or infinity in its weights.
        MismatchError: the saved model is not the model; says where it differs.
        ValueError: the folder holds other files, the Hub does not know the licence, or metrics, data, the front matter
            of the card or a size are in a wrong form.
        TypeError: not a model, a card that is neither text nor path, or an unknown keyword.
        OSError: the folder cannot be written, or the card not read.
    """
    _check_model(model, "save_pretrained")
    license = check_licence(license) if license else None
    limit, card = byte_count(max_shard_size, "max_shard_size"), given_card(card)
    target = Path(folder)
    _refuse_foreign(target)
    old_card = target / CARD_NAME
    existing = old_card.read_text("utf-8") if old_card.is_file() else None
    license = license or existing_license(card, "the given card") or existing_license(existing, str(old_card))
    with new_folder(target) as temporary:
        _write(
            model,
            temporary,
            repo_id=f"local/{target.resolve().name}",
            load_name=f"local-dir:{target.name}",
            metrics=metrics,
            train_data=train_data,
            training=training,
            license=license,
            card=card,
            existing=existing,
            limit=limit,
            verify=verify,
        )
    return target


@known_keywords
def push_to_hub(
    model: nn.Module,
    repo_id: str,
    *,
    token: str | bool | None = None,
    private: bool | None = None,
    revision: str | None = None,
    tag: str | None = None,
    move_tag: bool = False,
    create_pr: bool = False,
    commit_message: str | None = None,
    metrics: Any = None,
    train_data: Any = None,
    training: Mapping[str, Any] | None = None,
    license: str | None = None,
    card: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
    overwrite_card: bool = False,
    max_shard_size: int | str = MAX_SHARD_SIZE,
    space: bool | str = False,
    verify: bool = True,
) -> PushResult:
    """Publish a model on the Hugging Face Hub, as one commit.

    Everything is written to a temporary folder and loaded from there again first; nothing is changed on the Hub unless
    that succeeds. Then weights, config and card go up together, and weights files of an earlier push that these do not
    replace by name are deleted by the same commit.

    Args:
        model: as `save_pretrained`.
        repo_id: `"user/repo"`, or `"repo"` for the owner of the token; made if it does not exist.
        token: access token. Default: the saved one, or `HF_TOKEN`.
        private: visibility of a new repository; for one that exists it must agree.
        revision: branch, made if it does not exist. Default: `main`.
        tag: set on the commit.
        move_tag: an existing tag is moved to the commit; otherwise it is an error, unless it holds these very files.
        create_pr: open a pull request instead of committing to the branch.
        commit_message: default: `Add NAME`.
        metrics, train_data, training: as `save_pretrained`; they go into config and card.
        license: licence of the weights, one of the Hub's identifiers; required unless the repository's card states one.
        card: as `save_pretrained`.
        dry_run: do all but change the Hub; works without a connection, too, when `repo_id` names its owner.
        overwrite_card: replace the text of a card that exists; by default it is kept and its front matter updated.
        max_shard_size: as `save_pretrained`.
        space: make or update a Space with an app for this commit: True for one of the repository's name, or its name.
        verify: as `save_pretrained`.

    Returns:
        A `PushResult` with commit, URL and tag; for a dry run with the card that would be written.

    Raises:
        ValueError: no licence is stated, a name that no repository, branch or tag can have, or a Space for a pull
            request; and as `save_pretrained`.
        TypeError: not a model, no text where a name is due, or an unknown keyword.
        ConfigError, NonFiniteWeightsError, MismatchError: as `save_pretrained`.
        HubError: and its kinds: the Hub refused or did not answer.
    """
    _check_model(model, "push_to_hub")
    license = check_licence(license) if license else None
    limit, card = byte_count(max_shard_size, "max_shard_size"), given_card(card)
    check_ref(revision, "revision")
    check_ref(tag, "tag")
    if space and create_pr:
        raise ValueError("a Space shows a commit of a branch: leave out space= (--space) or create_pr= (--create-pr)")
    other = "bags of instances" if hasattr(model, "instance_shape") else "sequences" if words_of(model) else None
    if space and other is not None:
        raise ValueError(
            f"a Space shows one image at a time, and {type(model).__name__} takes {other}: leave out space= (--space)"
        )
    repo_id = full_repo_id(repo_id, token)
    space_id = None if not space else repo_id if space is True else full_repo_id(space, token, "space")
    notes: list[str] = []
    there = _look(repo_id, notes, dry_run, revision=revision, token=token)
    existing = there and there.replace("\r\n", "\n")
    if (
        space_id
        and not notes
        and not is_ours(_look(space_id, notes, dry_run, APP_NAME, token=token, repo_type="space"))
    ):
        raise HubError(
            f"the Space {space_id!r} has an {APP_NAME} that was not written here, and it is left alone: choose another "
            f"name, space='user/name' (--space-name user/name)"
        )
    license = license or existing_license(card, "the given card") or _license_there(existing, repo_id, overwrite_card)
    if not license:
        unseen = f" ({notes[0]})" if notes else ""
        raise ValueError(
            f"the licence of the weights must be stated to publish them at {repo_id!r}: license='apache-2.0', say "
            f"(--license on the command line){unseen}"
        )
    with tempfile.TemporaryDirectory(prefix="zoo-push-") as scratch:
        folder = Path(scratch)
        name = _write(
            model,
            folder,
            repo_id=repo_id,
            # Not the tag, which is no part of the files: the same model with another tag is the same commit.
            load_name=f"hf-hub:{repo_id}{f'@{revision}' if revision not in (None, 'main') else ''}",
            metrics=metrics,
            train_data=train_data,
            training=training,
            license=license,
            card=card,
            existing=existing,
            overwrite_card=overwrite_card,
            limit=limit,
            verify=verify,
        )
        result = commit_folder(
            folder,
            repo_id,
            message=commit_message or f"Add {name}",
            token=token,
            private=private,
            revision=revision,
            tag=tag,
            move_tag=move_tag,
            create_pr=create_pr,
            dry_run=dry_run,
            seen={CARD_NAME: there},
        )
        if dry_run:
            text = (folder / CARD_NAME).read_text("utf-8")
            result = replace(result, card=text, notes=notes or result.notes)
    if space_id is None:
        return result
    return replace(result, space=push_space(space_id, result.repo, result.commit, url=result.url, token=token))


def _look(repo_id: str, notes: list[str], dry_run: bool, name: str = CARD_NAME, **options: Any) -> str | None:
    """A text file of a repository; a dry run goes on without, and notes it, where the Hub does not answer."""
    try:
        return read_text(repo_id, name, attempts=1 if dry_run else 5, **options)
    except HubUnavailableError as error:
        if not dry_run:
            raise
        notes.append(f"the repository could not be looked at: {error}")
        return None


def _license_there(card: str | None, repo_id: str, overwritten: bool) -> str | None:
    """The licence that the card of a repository states; one that is to be replaced may be broken."""
    try:
        return existing_license(card, f"the README.md of {repo_id}")
    except ValueError as error:
        if overwritten:
            return None
        raise ValueError(f"{error}; correct it, or replace it with overwrite_card=True (--overwrite-card)") from error


def from_pretrained(source: str | os.PathLike[str], **options: Any) -> nn.Module:
    """A published model: `create_model` on a folder, `"user/repo[@revision]"`, `"local-dir:..."` or `"hf-hub:..."`."""
    text = os.fspath(source)
    if ":" in text and text.partition(":")[0].lower() in ("hf-hub", "hf_hub", "local-dir"):
        return create_model(text, **options)
    if Path(text).is_dir() or isinstance(source, os.PathLike):
        return create_model(f"local-dir:{text}", **options)
    split_repo(text)
    return create_model(f"hf-hub:{text}", **options)


def push_source(source: str, repo_id: str, **options: Any) -> PushResult:
    """Publish what the command line names: the folder of a saved model or of a run, or a registered model's weights."""
    path = Path(source)
    if not path.is_dir():
        _refuse_missing(source)
        row = weights_entry(source) if is_model(source) else None
        if row is not None:
            found = {"license": row.licence, "metrics": dict(row.metrics), "train_data": row.data}
            found["training"] = {"command": row.command} if row.command else None
            options |= {key: value for key, value in found.items() if value and options.get(key) is None}
        return push_to_hub(create_model(source, pretrained=True), repo_id, **options)
    folder = next((f for f in (path, path / "best", path / "model") if (f / CONFIG_NAME).is_file()), None)
    if folder is None:
        raise FileNotFoundError(f"{source} holds no {CONFIG_NAME}: give the folder of a saved model or of a run")
    config = read_config(folder)
    text = (folder / CARD_NAME).read_text("utf-8") if (folder / CARD_NAME).is_file() else None
    recorded = dict(config.zoo.get("training") or {})
    found = {
        "metrics": config.zoo.get("metrics"),
        "train_data": recorded.pop("data", None),
        "training": recorded,
        "license": existing_license(text, str(folder / CARD_NAME)),
        "card": None if is_untouched(text) else text,
    }
    options |= {key: value for key, value in found.items() if options.get(key) is None}
    dtype = _float_type(folder)
    loaded: dict[str, Any] = {"dtype": dtype} if dtype != torch.float32 else {}
    return push_to_hub(create_model(f"local-dir:{folder}", **loaded), repo_id, **options)


def _float_type(folder: Path) -> torch.dtype:
    """The narrowest type that holds all weights of a folder as they are."""
    tensors = open_checkpoint(folder, check_finite=False).tensors.values()
    found = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
    return reduce(torch.promote_types, found) if found else torch.float32


def pull_to_folder(repo: str, folder: str | os.PathLike[str], **options: Any) -> Snapshot:
    """Copy a repository's files, checked, into a new folder; code and (unless allowed) pickles stay behind.

    Raises:
        ValueError: the folder exists and is not empty.
        HubError, WeightsError: as `zoo.weights.hub.pull`.
    """
    import shutil

    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target} exists and is not empty: choose a new folder")
    snapshot = pull(repo, everything=True, **options)
    with new_folder(target) as temporary:
        for name in snapshot.files:
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(snapshot.folder / name, temporary / name)
    return snapshot


def _check_model(model: Any, name: str) -> None:
    """Refuse what is no module, with the call that makes one."""
    if not isinstance(model, nn.Module):
        wanted = f"zoo.{name}(zoo.create_model({model!r}, pretrained=True), ...)" if isinstance(model, str) else ""
        raise TypeError(
            f"{name} takes a model, got {'the name ' + repr(model) if wanted else type(model).__name__}: "
            f"{wanted or 'make one by zoo.create_model(...)'}"
        )


def _refuse_missing(source: str) -> None:
    """Tell a folder that is not there from a model's name."""
    path = Path(source)
    is_path = path.exists() or source.startswith(".") or "/" in source or os.sep in source
    if not is_path or source.partition(":")[0].lower() in ("hf-hub", "hf_hub", "local-dir"):
        return
    if path.exists():
        raise ValueError(f"{source} is a file: give the folder of a saved model or of a run")
    parent = path.parent
    if parent.is_dir():
        names = sorted(p.name for p in parent.iterdir() if p.is_dir())
        hint = did_you_mean(path.name, names) or f"; {parent} holds {', '.join(names[:8]) or 'no folder'}"
    else:
        hint = f"; {parent} does not exist either"
    raise FileNotFoundError(f"there is no folder {source!r}{hint}")


def _refuse_foreign(target: Path) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise ValueError(f"{target} is a file; a model is saved into a folder")
    if others := sorted(p.name for p in target.iterdir() if not _is_ours(p.name)):
        raise ValueError(
            f"{target} holds other files ({', '.join(others[:5])}), and saving replaces the folder: choose a new one"
        )


def _is_ours(name: str) -> bool:
    return name in (CONFIG_NAME, CARD_NAME) or is_weights_name(name)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside `torch.compile` and (Distributed)DataParallel wrappers."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def _write(
    model: nn.Module,
    folder: Path,
    *,
    repo_id: str,
    license: str | None,
    metrics: Any,
    train_data: Any,
    training: Mapping[str, Any] | None,
    card: str | None,
    existing: str | None,
    verify: bool,
    load_name: str,
    limit: int,
    overwrite_card: bool = False,
) -> str:
    """Write a model into an empty folder and check the result; returns the architecture's name."""
    model = unwrapped(model)
    rows, data = metric_rows(metrics), data_facts(train_data)
    facts = {**(training or {}), **({"data": data} if data else {})}
    describe(model, training=facts, metrics=rows, license=license)  # all that can be refused without writing
    files = save_sharded(model.state_dict(), folder, max_shard_size=limit)
    content = describe(model, files=files, training=facts, metrics=rows, license=license)
    write_config(content, folder / CONFIG_NAME)
    if license:
        text = make_card(
            parse_config(content, CONFIG_NAME),
            repo_id=repo_id,
            license=license,
            load_name=load_name,
            metrics=rows,
            train_data=data or None,
            training=training,
            base_model=_base_model(model, repo_id),
            body=card,
            existing=existing,
            overwrite=overwrite_card,
        )
        write_text(folder / CARD_NAME, text)
    if verify:
        _verify(model, folder)
    return content["architecture"]


def _verify(model: nn.Module, folder: Path) -> None:
    """Load what was written and compare it with the model."""
    name = f"local-dir:{folder}"
    try:
        again = create_model(name)
    except MismatchError:
        # The loader speaks of a file that the user never sees; say what differs in the words of the model.
        require_same_tensors(model, create_model(name, pretrained=False))
        raise
    require_same(model, again)


def _base_model(model: nn.Module, repo_id: str) -> str | None:
    source = getattr(model, "zoo_source", None)
    repo = source.get("repo") if isinstance(source, Mapping) else None
    if repo is None and isinstance(model, Composed) and model.zoo_composition.weights:
        cfg = model.pretrained_cfg  # of the base, whose weights timm loaded
        repo = cfg.get("hf_hub_id") if isinstance(cfg, Mapping) and not cfg.get("file") else None
    return repo if repo != repo_id else None
