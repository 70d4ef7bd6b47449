"""The model card (README.md of a repository): what is known is said, what is not known is "not stated"."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from zoo.weights.config import ModelConfig
from zoo.weights.facts import data_facts, metric_rows

_NOT_STATED = "not stated"
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


def existing_license(text: str | None) -> str | None:
    """The licence in the front matter of a card."""
    if not text:
        return None
    from huggingface_hub import ModelCard

    return ModelCard(text, ignore_metadata_errors=True).data.to_dict().get("license")


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
        ValueError: no licence; metrics or data in a wrong form.
    """
    from huggingface_hub import ModelCard
    from huggingface_hub.utils import yaml_dump

    if not isinstance(license, str) or not license.strip():
        raise ValueError("a model card needs a license (e.g. 'apache-2.0', 'cc-by-4.0', 'other'): say which one")
    rows, data = metric_rows(metrics), data_facts(train_data)
    front = _front_matter(config, repo_id, license.strip(), rows, data, base_model)
    text = body if body is not None else None if overwrite else existing
    card = ModelCard(text, ignore_metadata_errors=True) if text else None
    if card is None or is_untouched(text):
        name = load_name or f"hf-hub:{repo_id}"
        content = _body(config, repo_id, name, license.strip(), rows, data, training or {}, base_model).strip()
        content += f"\n\n{_SEAL}{_digest(content)} -->"
    else:
        content = card.text.strip()
    merged = _merge(card.data.to_dict() if card else {}, front)
    return f"---\n{yaml_dump(merged, sort_keys=False).strip()}\n---\n\n{content}\n"


def _merge(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The new facts over the old ones; lists of tags and data sets are joined."""
    merged = {**old, **new}
    for key in ("tags", "datasets", "metrics"):
        if isinstance(old.get(key), list) and isinstance(new.get(key), list):
            merged[key] = [*old[key], *(item for item in new[key] if item not in old[key])]
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

    entry = _entry(config.architecture)
    classes = config.num_classes or 0
    tags = ["zoo", "timm"]
    if entry is not None:
        tags += [*(entry.uses or _modules_of(config)), *([f"arxiv:{entry.family.arxiv}"] if entry.family.arxiv else [])]
    task = "image-classification" if classes else "image-feature-extraction"
    # The Hub's model-index knows no result without a data set.
    results = [
        EvalResult(
            task_type=task,
            dataset_type=row.get("dataset_type") or data.get("hub_id") or row["dataset"],
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
        library_name="zoo" if entry is not None else "timm",
        pipeline_tag=task,
        tags=tags,
        datasets=[data["hub_id"]] if data.get("hub_id") else None,
        metrics=sorted({row["name"] for row in rows}) or None,
        base_model=base_model,
        base_model_relation="finetune" if base_model else None,
        model_name=repo_id.rpartition("/")[2] if results else None,
        eval_results=results or None,
    )
    return card.to_dict()


def _with_dataset(rows: list[dict[str, Any]], data: Mapping[str, Any]) -> list[dict[str, Any]]:
    name = data.get("name")
    filled = [{**row, "dataset": row.get("dataset") or name} for row in rows]
    return [row for row in filled if row["dataset"]]


def _entry(architecture: str) -> Any:
    from zoo.registry import is_model, model_entry

    return model_entry(architecture) if is_model(architecture) else None


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
        _loading_section(name, own=entry is not None),
        _preprocessing_section(config),
        _classes_section(config),
        _metrics_section(rows, data),
        _training_section(data, training),
        f"## Licence\n\nWeights: {license}.",
        _limits_section(entry),
        _citation_section(entry),
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
            + (f" at `{_escape(str(where))}`" if where != "all" else "")
            + (f" with {_escape(', '.join(options))}" if options else "")
        )
    return lines


def _model_section(config: ModelConfig, entry: Any, base_model: str | None) -> str:
    lines = _composition(config)
    lines = lines or [
        f"- Architecture: `{config.architecture}`{f', {entry.summary}' if entry and entry.summary else ''}"
    ]
    if entry is not None and entry.uses:
        lines.append(f"- Modules: {', '.join(f'`{u}`' for u in entry.uses)}")
    size = config.pretrained_cfg.get("input_size")
    if size:
        lines.append(f"- Input: {size[0]} channels, {size[1]} x {size[2]} pixels")
    if params := config.zoo.get("params"):
        lines.append(f"- Parameters: {params:,} ({config.zoo.get('dtype', _NOT_STATED)})")
    if entry is not None and entry.macs and size and tuple(size) == tuple(entry.input_size or ()):
        lines.append(f"- Multiply-accumulates: {entry.macs:,} an image")
    lines.append(f"- Fine-tuned from: {f'`{base_model}`' if base_model else _NOT_STATED}")
    return "## Model\n\n" + "\n".join(lines)


def _loading_section(name: str, *, own: bool) -> str:
    code = f'import zoo\n\nmodel = zoo.create_model("{name}").eval()'
    theirs = f'model = timm.create_model("{name}", pretrained=True).eval()'
    theirs = f"import timm\n{'import zoo  # registers the architecture' if own else ''}\n{theirs}".replace("\n\n", "\n")
    text = f"## Use\n\n```python\n{code}\n```\n\nwith timm:\n\n```python\n{theirs}\n```"
    if name.startswith("hf-hub:"):
        pinned = f"{name.partition('@')[0]}@COMMIT"
        text += f"\n\nName a commit, `{pinned}`, to get the files of this very commit for good."
    return text


def _preprocessing_section(config: ModelConfig) -> str:
    cfg = config.pretrained_cfg
    keys = ("input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std")
    rows = [f"| {key} | {_plain(cfg[key])} |" for key in keys if cfg.get(key) is not None]
    example = (
        "```python\nfrom timm.data import create_transform\n\n"
        "transform = create_transform(**zoo.data_config(model))\n```"
    )
    return f"## Preprocessing\n\n{_table(['', ''], rows)}\n\n{example}" if rows else ""


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(_plain(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _classes_section(config: ModelConfig) -> str:
    if not config.num_classes:
        return "## Classes\n\nNone: the model gives features."
    labels = config.pretrained_cfg.get("label_names")
    if not labels:
        return f"## Classes\n\n{config.num_classes}; their names are {_NOT_STATED}."
    names = list(labels.values()) if isinstance(labels, Mapping) else list(labels)
    shown = ", ".join(_escape(str(n)) for n in names[:50])
    return f"## Classes\n\n{config.num_classes}: {shown}{', ... (all in config.json)' if len(names) > 50 else ''}."


def _metrics_section(rows: list[dict[str, Any]], data: Mapping[str, Any]) -> str:
    if not rows:
        return f"## Results\n\n{_NOT_STATED.capitalize()}."
    lines = []
    for row in rows:
        where = [row.get("dataset") or data.get("name"), row.get("split"), row.get("samples")]
        cells = [row["name"], f"{row['value']:.6g}", *(value or _NOT_STATED for value in where)]
        lines.append(f"| {' | '.join(_escape(str(cell)) for cell in cells)} |")
    return f"## Results\n\n{_table(['metric', 'value', 'data', 'split', 'samples'], lines)}"


def _training_section(data: Mapping[str, Any], training: Mapping[str, Any]) -> str:
    rows = [f"| data | {_escape(str(data.get('name') or _NOT_STATED))} |"]
    rows.append(f"| licence of the data | {_escape(str(data.get('licence') or data.get('license') or _NOT_STATED))} |")
    rows += [f"| {key} | {_escape(str(data[key]))} |" for key in ("url", "split", "samples") if data.get(key)]
    if not training:
        rows.append(f"| recipe | {_NOT_STATED} |")
    for key, value in training.items():
        rows.append(f"| {_escape(str(key))} | {_escape(str(value))} |")
    return f"## Training\n\n{_table(['', ''], rows)}"


def _limits_section(entry: Any) -> str:
    lines = ["## Intended use and limits", "", f"{_NOT_STATED.capitalize()} by the author beyond what is above."]
    if entry is not None and "medic" in f"{entry.family.title} {entry.family.paper}".lower():
        lines.append("Not a medical device: not for diagnosis or treatment.")
    return "\n".join(lines)


def _citation_section(entry: Any) -> str:
    if entry is None or not entry.family.paper:
        return ""
    family = entry.family
    fields = [f"  title = {{{family.paper}}}"]
    if family.year:
        fields.append(f"  year = {{{family.year}}}")
    if family.arxiv:
        fields += [f"  eprint = {{{family.arxiv}}}", "  archivePrefix = {arXiv}"]
    return "## Citation\n\n```bibtex\n@misc{" + family.name + ",\n" + ",\n".join(fields) + "\n}\n```"


def _files_section(config: ModelConfig) -> str:
    rows = [f"| {name} | {facts['size']:,} | `{facts['sha256']}` |" for name, facts in config.files.items()]
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "timm", "safetensors"))
    made = f"Written by zoo {config.zoo.get('version', _NOT_STATED)} with {versions}."
    return f"## Files\n\n{_table(['file', 'bytes', 'SHA-256'], rows)}\n\n{made}" if rows else f"## Files\n\n{made}"


def _table(head: list[str], rows: list[str]) -> str:
    return "\n".join([f"| {' | '.join(head)} |", "|" + "---|" * len(head), *rows])


def _escape(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|")
