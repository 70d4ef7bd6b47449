"""The model card (README.md of a repository): what is known is said, what is not known is "not stated"."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from zoo.errors import UnknownModuleError
from zoo.weights.card_input import bags_section, input_line, preprocessing_section, with_units, words_section
from zoo.weights.config import ModelConfig
from zoo.weights.facts import data_facts, metric_rows
from zoo.weights.markdown import escape, table

#: What is said of a training run in any case: name in the card, and the keys under which it may be stated.
_RECIPE = {
    "optimizer": ("opt", "optimizer", "optimiser"),
    "schedule": ("sched", "schedule", "scheduler"),
    "epochs": ("epochs", "steps"),
    "seed": ("seed",),
    "hardware": ("hardware", "device", "gpu"),
}
_NOT_STATED = "not stated"
#: Arguments of a model of tables that the card says in words.
_OF_TABLES = ("in_features", "feature_names", "feature_units", "target_units")
#: The longest name of a data set that counts as its identifier.
_LONGEST_ID = 60
_SEAL = "<!-- written by zoo, and written anew at each push until edited: "


def is_untouched(text: str | None) -> bool:
    """Whether a card is one of ours that nobody has edited since, so that it may be written anew."""
    body, mark, digest = (text or "").rpartition(_SEAL)
    if not mark:
        return False
    body = re.sub(r"\A---\n.*?\n---\n", "", body, count=1, flags=re.DOTALL)
    return digest.partition(" ")[0] == _digest(body)


def _digest(body: str) -> str:
    return hashlib.sha256(body.strip().encode("utf-8")).hexdigest()[:16]


def split_card(text: str, where: str = "the card") -> tuple[dict[str, Any], str]:
    """Front matter and text of a card; `where` names it in messages.

    Raises:
        ValueError: the front matter is not closed, not YAML, or not made of `key: value`; with the line.
    """
    import yaml

    text = text.lstrip("\ufeff")
    match = re.match(r"\s*---[ \t]*\r?\n(.*?)(?:^---[ \t]*(?:\r?\n|\Z))", text, flags=re.DOTALL | re.MULTILINE)
    if match is None:
        if re.match(r"\s*---[ \t]*\r?\n", text):
            raise ValueError(f"the front matter of {where} begins with '---' in line 1, and no line '---' ends it")
        return {}, text
    first = text[: match.start(1)].count("\n") + 1
    try:
        front = yaml.safe_load(match[1])
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = first + (mark.line if mark else 0)
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        shown = text.splitlines()[line - 1].strip() if line <= text.count("\n") + 1 else ""
        raise ValueError(f"the front matter of {where} is not YAML: line {line}, {shown!r}: {what}") from error
    if front is not None and not isinstance(front, dict):
        raise ValueError(f"the front matter of {where} (from line {first}) must be 'key: value' lines, got {front!r}")
    return front or {}, text[match.end() :]


def given_card(card: str | os.PathLike[str] | None) -> str | None:
    """The text of a card that was given as text or as the path of its file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the text is the name of a file, or the file is not UTF-8.
        TypeError: neither text nor path.
    """
    if card is None:
        return None
    if isinstance(card, os.PathLike):
        path = Path(card)
        if not path.is_file():
            raise FileNotFoundError(f"card: there is no file {str(path)!r}")
        try:
            return path.read_text("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"card: {path} is not text in UTF-8 ({error.reason} at byte {error.start})") from error
    if not isinstance(card, str):
        raise TypeError(f"card is the text of a README.md, or the path of one as pathlib.Path, got {card!r}")
    if "\n" not in card and card.rstrip().lower().endswith((".md", ".markdown")):
        raise ValueError(
            f"card={card!r} looks like the name of a file, and a str is taken for the text itself: write "
            f"card=pathlib.Path({card!r}) to have the file read"
        )
    return card


def existing_license(text: str | None, where: str = "the card") -> str | None:
    """The licence in the front matter of a card; errors as in `split_card`."""
    return split_card(text, where)[0].get("license") if text else None


def make_card(
    config: ModelConfig,
    *,
    repo_id: str,
    license: str,
    load_name: str | None = None,
    metrics: Any = None,
    train_data: Any = None,
    training: Mapping[str, Any] | None = None,
    base_model: str | None = None,
    body: str | None = None,
    existing: str | None = None,
    overwrite: bool = False,
) -> str:
    """Write a model card.

    Args:
        config: the model's config.json.
        repo_id: where it will be.
        license: licence of the weights (an identifier of the Hub, or `other`). Never assumed.
        load_name: what `create_model` is to be called with. Default: `hf-hub:REPO`.
        metrics, train_data: as in `zoo.weights.facts`.
        training: facts about the training.
        base_model: repository whose weights these were fine-tuned from.
        body: text instead of the generated one; front matter in it counts like that of an existing card.
        existing: the card that is there now; its front matter is merged, and its text stays unless it is one of ours
            that nobody has edited.
        overwrite: forget the existing card.

    Returns:
        The text of README.md.

    Raises:
        ValueError: no licence; metrics or data in a wrong form; front matter that is not YAML, with the line, or that
            the Hub's client refuses.
    """
    from huggingface_hub.utils import yaml_dump

    if not isinstance(license, str) or not license.strip():
        raise ValueError("a model card needs a license (e.g. 'apache-2.0', 'cc-by-4.0', 'other'): say which one")
    rows, data = metric_rows(metrics), data_facts(train_data)
    front = _front_matter(config, repo_id, license.strip(), rows, data, base_model)
    text = body if body is not None else None if overwrite else existing
    old, kept = (
        split_card(text, "the given card" if body is not None else "the README.md that is there") if text else ({}, "")
    )
    if not text or is_untouched(text):
        name = load_name or f"hf-hub:{repo_id}"
        content = _body(config, repo_id, name, license.strip(), rows, data, training or {}, base_model).strip()
        content += f"\n\n{_SEAL}{_digest(content)} -->"
    else:
        content = kept.strip()
    if is_untouched(text):
        old = _without_claims(old)
    merged = _merge(old, front)
    _check_front_matter(merged)
    return f"---\n{yaml_dump(merged, sort_keys=False).strip()}\n---\n\n{content}\n"


def _check_front_matter(front: Mapping[str, Any]) -> None:
    """Refuse what the Hub's own client cannot read, before it is on the Hub."""
    from huggingface_hub import ModelCardData

    try:
        ModelCardData(**front)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"the front matter of the card is not what the Hub expects: {error}") from error


def _without_claims(front: Mapping[str, Any]) -> dict[str, Any]:
    """Front matter of a card of ours without what an earlier push said of the weights of then."""
    from zoo.registry import KINDS, default_registry

    claims = ("model-index", "metrics", "datasets", "base_model", "base_model_relation")
    left = {key: value for key, value in front.items() if key not in claims}
    registry = default_registry()
    papers = {f"arxiv:{entry.family.arxiv}" for entry in (*registry.models, *registry.modules)}
    if isinstance(tags := left.get("tags"), list):
        left["tags"] = [t for t in tags if t not in papers and str(t).partition("/")[0] not in KINDS]
    return left


def _merge(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The new facts over the old ones; lists of tags, data sets and metrics are joined."""
    merged = {**old, **new}
    for key in ("tags", "datasets", "metrics"):
        before = old.get(key) or []
        before = [before] if isinstance(before, str) else before
        if not isinstance(before, list):
            raise ValueError(f"{key!r} in the front matter of the card must be a list, got {before!r}")
        if before:
            merged[key] = [*before, *(item for item in new.get(key) or [] if item not in before)]
    return merged


def _front_matter(
    config: ModelConfig,
    repo_id: str,
    license: str,
    rows: list[dict[str, Any]],
    data: Mapping[str, Any],
    base_model: str | None,
) -> dict[str, Any]:
    from huggingface_hub import EvalResult, ModelCardData

    tags = ["zoo", *(["timm"] if config.takes_images else []), *_modules(config)]
    tags += [f"arxiv:{family.arxiv}" for family in _families(config) if family.arxiv]
    task = _task(config)
    # The Hub's model-index knows no result without a data set.
    results = [
        EvalResult(
            task_type=task,
            dataset_type=row.get("dataset_type") or data.get("hub_id") or _identifier(row["dataset"]),
            dataset_name=row["dataset"],
            dataset_split=row.get("split"),
            metric_type=row["name"],
            metric_name=row["name"],
            metric_value=row["value"],
        )
        for row in _with_dataset(rows, data)
    ]
    card = ModelCardData(
        license=license,
        library_name="timm" if _entry(config.architecture) is None and _timm_reads(config) else "zoo",
        pipeline_tag=None if task == "other" else task,
        tags=tags,
        datasets=[data["hub_id"]] if data.get("hub_id") else None,
        metrics=sorted({row["name"] for row in rows}) or None,
        base_model=base_model,
        base_model_relation="finetune" if base_model else None,
        model_name=repo_id.rpartition("/")[2] if results else None,
        eval_results=results or None,
    )
    return card.to_dict()


def _task(config: ModelConfig) -> str:
    """The Hub's name of what the model is for."""
    if config.vocabulary:
        return "text-generation"
    if config.takes_images:
        return "image-classification" if config.num_classes else "image-feature-extraction"
    if config.table_task and config.num_classes:
        return f"tabular-{config.table_task}"
    return "other"


def _identifier(dataset: str) -> str:
    """The name of a data set, of a long description its beginning as an identifier."""
    if len(dataset) <= _LONGEST_ID:
        return dataset
    return re.sub(r"\W+", "-", re.split(r"[:;,.(]", dataset)[0].lower())[:_LONGEST_ID].strip("-") or "other"


def _with_dataset(rows: list[dict[str, Any]], data: Mapping[str, Any]) -> list[dict[str, Any]]:
    name = data.get("name")
    filled = [{**row, "dataset": row.get("dataset") or name} for row in rows]
    return [row for row in filled if row["dataset"]]


def _entry(architecture: str) -> Any:
    from zoo.registry import is_model, model_entry

    return model_entry(architecture) if is_model(architecture) else None


def _timm_reads(config: ModelConfig) -> bool:
    """Whether timm finds the weights: it reads one file, never shards."""
    return len(config.files) <= 1


def _modules(config: ModelConfig) -> list[str]:
    """Names (`kind/name`) of the modules that the model is built of."""
    entry = _entry(config.architecture)
    return list(entry.uses) if entry is not None and entry.uses else _modules_of(config)


def _families(config: ModelConfig) -> list[Any]:
    """The families whose papers the model rests on: its own and those of its modules."""
    from zoo.registry import module_entry

    entry = _entry(config.architecture)
    found = {} if entry is None else {entry.family.name: entry.family}
    for name in _modules(config):
        try:
            family = module_entry(name).family
        except UnknownModuleError:  # of a plug-in that is not installed here
            continue
        found.setdefault(family.name, family)
    return list(found.values())


def _body(
    config: ModelConfig,
    repo_id: str,
    name: str,
    license: str,
    rows: list[dict[str, Any]],
    data: Mapping[str, Any],
    training: Mapping[str, Any],
    base_model: str | None,
) -> str:
    entry = _entry(config.architecture)
    parts = [
        f"# {repo_id.rpartition('/')[2]}",
        _model_section(config, entry, base_model),
        _loading_section(name, config, own=entry is not None),
        preprocessing_section(config),
        _classes_section(config),
        _metrics_section(rows, data),
        _training_section(data, training),
        f"## Licence\n\nWeights: {license}.",
        _limits_section(entry),
        _citation_section(config),
        _files_section(config),
    ]
    return "\n\n".join(part for part in parts if part)


#: Parts of a backbone that a composition replaces, in words.
_PARTS = {
    "mlp": "feed-forward parts",
    "mixer": "token mixers",
    "act": "activations",
    "pool": "global pooling",
    "head": "classifier",
}


def _parts_of(config: ModelConfig) -> dict[str, dict[str, Any]]:
    """Slot -> module and options of a composition; empty for other models."""
    if config.architecture != "zoo_composite":
        return {}
    return {slot: part for slot in _PARTS if isinstance(part := config.model_args.get(slot), dict) and "type" in part}


def _modules_of(config: ModelConfig) -> list[str]:
    """Registered names of the modules in a composition."""
    names = ((slot, str(part["type"])) for slot, part in _parts_of(config).items())
    return [name if "/" in name else f"{slot}/{name}" for slot, name in names]


def _composition(config: ModelConfig) -> list[str]:
    """What a composition is made of, line by line."""
    parts = _parts_of(config)
    if not parts:
        return []
    lines = [f"- Architecture: `{config.model_args.get('base')}`, with parts replaced"]
    for (slot, part), module in zip(parts.items(), _modules_of(config), strict=True):
        where = part.get("where", "all")
        options = [f"{key}={part[key]}" for key in part if key not in ("type", "where", "init")]
        lines.append(
            f"- {_PARTS[slot].capitalize()}: `{module}`"
            + (f" at `{escape(str(where))}`" if where != "all" else "")
            + (f" with {escape(', '.join(options))}" if options else "")
        )
    return lines


def _model_section(config: ModelConfig, entry: Any, base_model: str | None) -> str:
    lines = _composition(config)
    params = config.zoo.get("params")
    # Of a model without images its summary may name sizes; with others it has another number of parameters.
    said = entry.summary if entry is not None and (config.takes_images or params == entry.params) else ""
    lines = lines or [f"- Architecture: `{config.architecture}`{said and f', {said}'}"]
    if not config.takes_images and config.model_args:
        elsewhere = ("num_classes", *(_OF_TABLES if config.table_task else ()))
        given = ", ".join(f"{key}={value}" for key, value in config.model_args.items() if key not in elsewhere)
        lines += [f"- Built with: {escape(given)}"] if given else []
    if entry is not None and entry.uses:
        lines.append(f"- Modules: {', '.join(f'`{u}`' for u in entry.uses)}")
    size = config.pretrained_cfg.get("input_size")
    if taken := input_line(config):
        lines.append(f"- Input: {taken}")
    if params:
        lines.append(f"- Parameters: {params:,} ({config.zoo.get('dtype', _NOT_STATED)})")
    if entry is not None and entry.macs and size and tuple(size) == tuple(entry.input_size or ()):
        own = "" if params == entry.params else ", with the classifier that it is registered with"
        lines.append(f"- Multiply-accumulates: {entry.macs:,} an image{own}")
    lines.append(f"- Fine-tuned from: {f'`{base_model}`' if base_model else _NOT_STATED}")
    return "## Model\n\n" + "\n".join(lines)


def _loading_section(name: str, config: ModelConfig, *, own: bool) -> str:
    text = f"## Use\n\n```python\n{_code(name)}\n```"
    if config.takes_images and _timm_reads(config):
        text += f"\n\nwith timm:\n\n```python\n{_timm_code(name, own)}\n```"
    elif config.takes_images:
        text += "\n\nThe weights are in several files, which timm does not read: load them with zoo."
    if bags := bags_section(config) or words_section(config):
        text += f"\n\n{bags}"
    if name.startswith("hf-hub:"):
        pinned = f"{name.partition('@')[0]}@COMMIT"
        text += (
            f"\n\nA branch or tag can move. To get the same files for good, name the commit, `{pinned}`: the "
            f"repository's list of commits has it, and `model.zoo_source['commit']` of a loaded model."
        )
    return text


def _code(name: str) -> str:
    return f'import zoo\n\nmodel = zoo.create_model("{name}").eval()'


def _timm_code(name: str, own: bool) -> str:
    zoo = "import zoo  # registers the architecture\n" if own else ""
    return f'import timm\n{zoo}model = timm.create_model("{name}", pretrained=True).eval()'


def _classes_section(config: ModelConfig) -> str:
    if tokens := config.vocabulary:
        return f"## Vocabulary\n\n{tokens:,} tokens; the tokenizer is {_NOT_STATED}."
    if not config.num_classes:
        return "## Classes\n\nNone: the model gives features."
    labels = config.pretrained_cfg.get("label_names")
    if config.table_task == "regression":
        units = config.model_args.get("target_units")
        said = escape(", ".join(with_units(labels, units))) if labels else f"their names are {_NOT_STATED}"
        return f"## Targets\n\n{config.num_classes}{': ' if labels else '; '}{said}; predicted in their own units."
    if not labels:
        return f"## Classes\n\n{config.num_classes}; their names are {_NOT_STATED}."
    names = list(labels.values()) if isinstance(labels, Mapping) else list(labels)
    shown = ", ".join(escape(str(n)) for n in names[:50])
    return f"## Classes\n\n{config.num_classes}: {shown}{', ... (all in config.json)' if len(names) > 50 else ''}."


def _metrics_section(rows: list[dict[str, Any]], data: Mapping[str, Any]) -> str:
    if not rows:
        return f"## Results\n\n{_NOT_STATED.capitalize()}."
    lines = []
    for row in rows:
        where = [row.get("dataset") or data.get("name"), row.get("split"), row.get("samples")]
        cells = [row["name"], f"{row['value']:.6g}", *(value or _NOT_STATED for value in where)]
        lines.append(f"| {' | '.join(escape(str(cell)) for cell in cells)} |")
    return f"## Results\n\n{table(['metric', 'value', 'data', 'split', 'samples'], lines)}"


def _training_section(data: Mapping[str, Any], training: Mapping[str, Any]) -> str:
    rows = [f"| data | {escape(str(data.get('name') or _NOT_STATED))} |"]
    rows.append(f"| licence of the data | {escape(str(data.get('licence') or data.get('license') or _NOT_STATED))} |")
    rows += [f"| {key} | {escape(str(data[key]))} |" for key in ("url", "split", "samples") if data.get(key)]
    if not training:
        rows.append(f"| recipe | {_NOT_STATED} |")
    for key, value in training.items():
        rows.append(f"| {escape(str(key))} | {escape(str(value))} |")
    if training:
        rows += [f"| {name} | {_NOT_STATED} |" for name, keys in _RECIPE.items() if not training.keys() & set(keys)]
    return f"## Training\n\n{table(['', ''], rows)}"


def _limits_section(entry: Any) -> str:
    lines = ["## Intended use and limits", "", f"{_NOT_STATED.capitalize()} by the author beyond what is above."]
    about = "" if entry is None else f"{entry.family.title} {entry.family.paper}".lower()
    if any(word in about for word in ("medic", "chromosome")):
        lines.append("Not a medical device: not for diagnosis or treatment.")
    return "\n".join(lines)


def _citation_section(config: ModelConfig) -> str:
    cited = [_citation(family) for family in _families(config) if family.paper]
    return "## Citation\n\n```bibtex\n" + "\n\n".join(cited) + "\n```" if cited else ""


def _citation(family: Any) -> str:
    fields = [f"  title = {{{family.paper}}}"]
    if family.year:
        fields.append(f"  year = {{{family.year}}}")
    if family.arxiv:
        fields += [f"  eprint = {{{family.arxiv}}}", "  archivePrefix = {arXiv}"]
    return "@misc{" + family.name + ",\n" + ",\n".join(fields) + "\n}"


def _files_section(config: ModelConfig) -> str:
    rows = [f"| {name} | {facts['size']:,} | `{facts['sha256']}` |" for name, facts in config.files.items()]
    versions = ", ".join(
        f"{name} {metadata.version(name)}" for name in ("torch", "timm", "safetensors", "huggingface_hub")
    )
    made = (
        f"Written by zoo {config.zoo.get('version', _NOT_STATED)} with {versions}, Python {platform.python_version()}."
    )
    return f"## Files\n\n{table(['file', 'bytes', 'SHA-256'], rows)}\n\n{made}" if rows else f"## Files\n\n{made}"
