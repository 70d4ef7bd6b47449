"""Data sets of the Hugging Face library: from the Hub at a fixed commit, from a folder, or an object in memory."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import DataError, MissingExtraError
from zoo.naming import did_you_mean
from zoo.training.data.decode import decode_image, read_image
from zoo.training.data.image_set import ImageSet, Splits
from zoo.training.data.labels import encode, from_columns, some
from zoo.training.data.options_text import split_options, yes_or_no
from zoo.training.data.table import IMAGE, LABEL, SPLIT_NAMES

PREFIXES = ("hf:",)
OPTIONS = ("image", "label", "config", "ordinal")
_REPO = re.compile(r"(?P<repo>[\w.-]+(?:/[\w.-]+)?)(?:@(?P<revision>[^:]+))?(?::(?P<config>.+))?")


class HubImages(ImageSet):
    """The rows of a `datasets.Dataset`.

    Image columns are decoded here, when an image is asked for, so that depth and channels are kept.
    """

    decodes = True

    def __init__(
        self, rows: Any, column: str, labels: np.ndarray, classes: Sequence[str], *, name: str, ordinal: bool = False
    ):
        from datasets import Image

        self.column = column
        pictures = isinstance(rows.features[column], Image)
        self.dtype = None if pictures else _number_type(rows.features[column])
        only = rows.with_format(None).select_columns([column])
        self.rows = only.cast_column(column, Image(decode=False)) if pictures else only.with_format("numpy")
        super().__init__(labels, classes, name=name, ordinal=ordinal)

    def image(self, index: int) -> Any:
        value = self.rows[index][self.column]
        if isinstance(value, Mapping):
            value = value["bytes"] if value.get("bytes") is not None else value.get("path")
        if isinstance(value, bytes):
            return decode_image(value, self.where(index))
        if isinstance(value, str):
            return read_image(Path(value))
        if value is None:
            raise DataError(f"{self.where(index)} has no image")
        # The library's own conversion makes int64 and float32 of every number.
        return np.asarray(value).astype(self.dtype) if self.dtype else value

    def where(self, index: int) -> str:
        return f"row {index} of {self.name}"

    def content(self, index: int) -> bytes | None:
        value = self.rows[index][self.column]
        if isinstance(value, Mapping):
            value = value["bytes"] if value.get("bytes") is not None else value.get("path")
        if isinstance(value, str):
            return Path(value).read_bytes()
        return value if isinstance(value, bytes) else None


def is_dataset(data: Any) -> bool:
    """Whether this is an object of the datasets library (which is not imported for it)."""
    kind = type(data)
    return kind.__module__.startswith("datasets.") and kind.__name__ in (
        "Dataset", "DatasetDict", "IterableDataset", "IterableDatasetDict",
    )  # fmt: skip


def open_text(text: str) -> Splits:
    """Read `hf:user/dataset[@revision][:config]`, or `hf:` and a folder, with options after a `?`.

    A revision is resolved to its commit, all files are of that commit, and it is noted in the run. Nothing that comes
    from the Hub is executed.

    Raises:
        DataError: no such form, columns that are not found, a configuration that must be chosen.
        HubError: no such data set, no access, no connection.
        MissingExtraError: without the extra `data`.
    """
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError(f"the data set {text!r}", "datasets", "data") from error
    source, options = split_options(text.removeprefix("hf:"), OPTIONS)
    folder = Path(source).expanduser()
    if source and folder.is_dir():
        stored = any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))
        if stored:
            found: Any = _guarded(text, lambda: datasets.load_from_disk(str(folder)))
        else:
            found = _guarded(text, lambda: datasets.load_dataset(str(folder), options.get("config")))
        return open_dataset(found, options, name=folder.resolve().name, source=text)
    match = _REPO.fullmatch(source)
    if match is None or source.startswith((".", "/", "~")):
        raise DataError(f"{text!r}: after 'hf:' comes a folder that exists, or user/dataset[@revision][:config]")
    repo, config = match["repo"], match["config"] or options.get("config")
    notes: list[str] = []
    found, facts = _from_hub(text, repo, match["revision"], config, notes)
    splits = open_dataset(found, options, name=repo.split("/")[-1], source=text)
    splits.facts, splits.notes = facts, [*notes, *splits.notes]
    return splits


def open_dataset(data: Any, options: Mapping[str, str] | None = None, *, name: str = "", source: str = "") -> Splits:
    """Splits of a `datasets.Dataset` or `DatasetDict`.

    Args:
        data: the object.
        options: `image` and `label` (columns; several of zeros and ones joined by commas), `ordinal`.
        name: of the data set.
        source: what to name in messages.

    Raises:
        DataError: a stream, or columns that are not found.
    """
    options = options or {}
    name = name or _given_name(data)
    source = source or name
    if type(data).__name__.startswith("Iterable"):
        raise DataError(f"{source} is a stream, without length and order; load it without streaming=True")
    splits = Splits(name=name, whole=not isinstance(data, Mapping))
    parts = _named_splits(data, splits.notes) if isinstance(data, Mapping) else {"train": data}
    if all(part.format["type"] == "custom" for part in parts.values()):  # the user's own set_transform
        from zoo.training.data.torch_dataset import DatasetImages

        for split, part in parts.items():
            setattr(splits, split, DatasetImages(part, name=f"{split} of {source}"))
        return splits
    first = next(iter(parts.values()))
    image, label = _image_column(first.features, options, source), _label_columns(first.features, options, source)
    labels, classes = _labels(parts, label, source, splits.notes)
    for split, numbers in labels.items():
        title = f"{split} of {source}"
        made = HubImages(parts[split], image, numbers, classes, name=title, ordinal=yes_or_no(dict(options), "ordinal"))
        made.partial = True
        setattr(splits, split, made)
    return splits


def _from_hub(
    text: str, repo: str, revision: str | None, config: str | None, notes: list[str]
) -> tuple[Any, dict[str, Any]]:
    import datasets
    from huggingface_hub import HfApi

    from zoo.weights.hub_errors import is_unreachable, translate

    api = HfApi()
    facts: dict[str, Any] = {"name": repo, "hub_id": repo}
    facts["url"] = f"{api.endpoint}/datasets/{repo}"
    try:
        info = api.dataset_info(repo, revision=revision)
    except Exception as error:
        ours = translate(error, repo=f"datasets/{repo}", revision=revision)
        if not is_unreachable(error):
            raise ours from error
        found = _from_cache(repo, config, revision)
        if found is None:
            raise ours from error
        commit = _commit_of(found)
        notes.append(f"{ours}; taken from the cache: {repo} at {commit or 'an unknown commit'}")
        return found, facts | {"revision": commit}
    facts["revision"] = info.sha
    licence = getattr(info.card_data, "license", None)
    if isinstance(licence, str):
        facts["licence"] = licence
    return _guarded(text, lambda: datasets.load_dataset(repo, config, revision=info.sha), repo, info.sha), facts


def _from_cache(repo: str, config: str | None, revision: str | None) -> Any:
    """What an earlier run has left in the cache; None where there is nothing, or nothing of that revision.

    The library takes its newest copy, whatever the revision.
    """
    import datasets
    from datasets import config as library
    from huggingface_hub import constants

    settings = [(constants, "HF_HUB_OFFLINE"), (library, "HF_HUB_OFFLINE")]
    before = [getattr(module, name) for module, name in settings]
    try:
        for module, name in settings:  # without these it would try to connect for half a minute
            setattr(module, name, True)
        found = datasets.load_dataset(repo, config)
    except Exception:
        return None
    finally:
        for (module, name), value in zip(settings, before, strict=True):
            setattr(module, name, value)
    return found if revision in (None, _commit_of(found)) else None


def _commit_of(found: Any) -> str | None:
    """The commit by which the library names the folder of a cached copy."""
    part = next(iter(found.values())) if isinstance(found, Mapping) else found
    folders = {Path(file["filename"]).parent.name for file in part.cache_files}
    name = folders.pop() if len(folders) == 1 else ""
    return name if re.fullmatch("[0-9a-f]{40}", name) else None


def _guarded(text: str, load: Any, repo: str | None = None, commit: str | None = None) -> Any:
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError

    from zoo.weights.hub_errors import translate

    try:
        return load()
    except HfHubHTTPError as error:
        raise translate(error, repo=f"datasets/{repo}", revision=commit) from error
    except (DatasetsError, ValueError, OSError, RuntimeError, TypeError) as error:
        refused = _refusal(repo, commit) if repo else None  # which the library puts into words of its own
        if refused is not None:
            raise translate(refused, repo=f"datasets/{repo}", revision=commit) from error
        said = " ".join(str(error).split())
        hint = "; choose one: 'hf:USER/DATASET:CONFIG'" if "onfig name is missing" in said else ""
        raise DataError(f"cannot read {text!r} ({type(error).__name__}: {said[:300]}){hint}") from error


def _refusal(repo: str, commit: str | None) -> Exception | None:
    """The Hub's refusal to give files of a repository that it describes: a gated one, or one without access."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    try:
        get_hf_file_metadata(hf_hub_url(repo, "README.md", repo_type="dataset", revision=commit))
    except EntryNotFoundError:
        return None
    except HfHubHTTPError as error:
        return error
    return None


def _given_name(data: Any) -> str:
    part = next(iter(data.values())) if isinstance(data, Mapping) else data
    return str(getattr(getattr(part, "info", None), "dataset_name", None) or "dataset")


def _named_splits(data: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    others = [key for key in data if key.lower() not in SPLIT_NAMES]
    for key, part in data.items():
        split = SPLIT_NAMES.get(key.lower())
        if split is not None and split in parts:
            raise DataError(f"there are two splits for {split!r}: {some(list(data))}. Pass one of them by name: "
                            f"{{{split!r}: dataset[…], …}}")  # fmt: skip
        if split is not None:
            parts[split] = part
    if not parts:
        raise DataError(f"no split is called train, val or test; splits there: {some(others)}. Pass them by name: "
                        "{'train': dataset[…], 'test': dataset[…]}")  # fmt: skip
    if others:
        notes.append(f"splits that are not used: {some(others)}")
    return {split: parts[split] for split in ("train", "val", "test") if split in parts}


def _image_column(features: Mapping[str, Any], options: Mapping[str, str], source: str) -> str:
    from datasets import Image

    pictures = [name for name, feature in features.items() if isinstance(feature, Image)]
    return _choose(features, options.get("image"), (*IMAGE, "pixel_values"), pictures, "image", source)


def _label_columns(features: Mapping[str, Any], options: Mapping[str, str], source: str) -> list[str]:
    wanted = options.get("label")
    if wanted and "," in wanted and wanted not in features:
        return [_choose(features, part.strip(), (), [], "label", source) for part in wanted.split(",")]
    return [_choose(features, wanted, LABEL, [n for n, f in features.items() if _class_names(f)], "label", source)]


def _choose(
    features: Mapping[str, Any], wanted: str | None, usual: Sequence[str], fitting: list[str], what: str, source: str
) -> str:
    there = ", ".join(f"{name!r} ({_kind(feature)})" for name, feature in features.items())
    if wanted is not None:
        if wanted not in features:
            raise DataError(f"{source} has no column {wanted!r}; there: {there}{did_you_mean(wanted, features)}")
        return wanted
    found = [name for name in fitting if name in usual] or fitting or [name for name in usual if name in features]
    if len(found) == 1 or (found and found[0] in usual):
        return found[0]
    why = f"{len(found)} columns could be the {what}" if found else f"no column for the {what}"
    raise DataError(f"{source}: {why}; there: {there}. Name it by '?{what}=COLUMN' after the source")


def _kind(feature: Any) -> str:
    return getattr(feature, "dtype", None) if type(feature).__name__ == "Value" else type(feature).__name__  # type: ignore[return-value]


def _number_type(feature: Any) -> str | None:
    """The type of the numbers in an array or in nested lists."""
    while hasattr(feature, "feature"):
        feature = feature.feature
    dtype = str(getattr(feature, "dtype", ""))
    return dtype if dtype.startswith(("uint", "int", "float")) else None


def _class_names(feature: Any) -> list[str] | None:
    """Class names of a ClassLabel, or of a list of them."""
    names = getattr(getattr(feature, "feature", feature), "names", None)
    return list(names) if names else None


def _labels(
    parts: Mapping[str, Any], columns: list[str], source: str, notes: list[str]
) -> tuple[dict[str, np.ndarray], list[str]]:
    first = next(iter(parts.values()))
    if len(columns) > 1:
        rows = {s: list(zip(*(list(p[c]) for c in columns), strict=True)) for s, p in parts.items()}
        return {s: from_columns(r, columns, f"{s} of {source}") for s, r in rows.items()}, columns
    values = {split: list(part.with_format(None)[columns[0]]) for split, part in parts.items()}
    for split in [s for s, v in values.items() if s != "train" and all(one in (-1, None) for one in v)]:
        notes.append(f"{split} of {source} has no labels and is left out")
        del values[split]
    encoded = encode(values, f"{source}, column {columns[0]!r}", _class_names(first.features[columns[0]]))
    return encoded.labels, encoded.classes
