"""What a card says of a model's input: images, tokens or bags, how they are prepared, and how the model is called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zoo.models.data_config import CANVAS
from zoo.weights.config import ModelConfig
from zoo.weights.markdown import escape, table

_PREPARATION = ("input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std")


def input_line(config: ModelConfig) -> str | None:
    """The input in a few words; None where nothing is known of it."""
    if size := config.pretrained_cfg.get("input_size"):
        return f"{size[0]} channels, {size[1]} x {size[2]} pixels"
    if tokens := config.vocabulary:
        most = config.model_args.get("n_positions")
        return f"tokens, numbers from 0 to {tokens - 1:,}{f', at most {most:,} a text' if most else ''}"
    if (most := config.words) is not None:
        return f"sequences of letters, of which the first {most:,} words are taken"
    if config.table_task is not None:
        return f"rows of a table, {config.model_args['in_features']} columns{_column_names(config)}"
    return f"bags of any number of instances, {_instances(config)}" if config.instance_shape else None


def _column_names(config: ModelConfig) -> str:
    names = config.model_args.get("feature_names")
    return f": {escape(', '.join(with_units(names, config.model_args.get('feature_units'))))}" if names else ""


def with_units(names: Sequence[str], units: Sequence[str] | None) -> list[str]:
    """Names of quantities, each with its unit behind it where it has one."""
    pairs = zip(names, units or [""] * len(names), strict=True)
    return [f"{name} ({unit})" if unit else name for name, unit in pairs]


def _instances(config: ModelConfig) -> str:
    shape = config.instance_shape or []
    if shape == [None]:
        return "sequences of amino acids"
    if len(shape) == 1:
        return f"vectors of {shape[0]:,} features"
    if len(shape) == 3:
        return f"images of {shape[0]} channel{'s' * (shape[0] != 1)}, {shape[1]} x {shape[2]} pixels"
    return f"arrays of {' x '.join(map(str, shape))}"


def bags_section(config: ModelConfig) -> str:
    """How a model of bags is asked; empty for other models."""
    shape = config.instance_shape
    if shape is None:
        return ""
    axes, kind = ", ".join(map(str, shape)), "FloatTensor"
    given = f"a file of `rows` (instances, {axes}), bag behind bag, and `offsets` (bags + 1), where each bag starts"
    source = "bags.npz"
    if shape == [None]:
        axes, kind, source = "positions", "LongTensor", "sample.tsv"
        given = "a table of sequences, one repertoire"
    elif len(shape) == 3:
        given += ", the rows as uint8 pixels; also `bags:FOLDER` of image files"
    return (
        "The input is a bag of instances, of any number and in any order, and the answer is one for the bag.\n\n"
        f"```python\nanswers = zoo.predict(model, {source!r})\n"
        'answers[0]["label"], answers[0]["instances"]  # and the weight of every instance in it\n```\n\n'
        f"`{source}` is {given}. Called directly, `model(instances, padding_mask)` takes prepared bags padded to the "
        f"longest, a {kind} (bags, instances, {axes}), and a mask (bags, instances), True where there is no instance."
    )


def words_section(config: ModelConfig) -> str:
    """How a model of sequences of letters is asked; empty for other models."""
    if config.words is None:
        return ""
    return (
        "The input is a sequence of letters; the tokenizer, which is part of the model, makes words of them.\n\n"
        '```python\nanswers = zoo.predict(model, "proteins.fasta")  # or a table with a column `sequence`, or texts\n'
        'answers[0]["label"], answers[0]["probability"]\n```\n\n'
        "Called directly, `model(tokens, lengths)` takes numbers of words, (sequences, words), and how many each has; "
        "`model.tokenizer.encode(text)` makes them. It answers probabilities."
    )


def preprocessing_section(config: ModelConfig) -> str:
    """How the input is prepared."""
    cfg, shape = config.pretrained_cfg, config.instance_shape
    if config.table_task is not None:
        return "## Preprocessing\n\nNone: rows come in their own units, and the model standardises every column itself."
    if shape is not None and len(shape) != 3:
        return _features(cfg, shape)
    if not (config.takes_images or shape):
        return ""
    rows = [f"| {key} | {_plain(cfg[key])} |" for key in _PREPARATION if cfg.get(key) is not None]
    if not rows:
        return ""
    if cfg.get("crop_mode") == CANVAS:  # timm knows no such mode, and would resize without a word
        taken, made = "zoo.training.data.transform import eval_transform", "eval_transform(zoo.data_config(model))"
    else:
        taken, made = "timm.data import create_transform", "create_transform(**zoo.data_config(model))"
    example = f"```python\nimport zoo\nfrom {taken}\n\ntransform = {made}\n```"
    if cfg.get("crop_mode") == CANVAS:
        example += "\n\nImages lie in the middle of a canvas, on a background of 0, and none is resized to fill it."
    of = "Of every instance:\n\n" if shape else ""
    return f"## Preprocessing\n\n{of}{table(['', ''], rows)}\n\n{example}"


def _features(cfg: dict[str, Any], shape: list[int | None]) -> str:
    if shape == [None]:
        return ""
    if cfg.get("mean") is None or cfg.get("std") is None:
        return "## Preprocessing\n\nFeatures are taken as they are."
    return (
        "## Preprocessing\n\nFeatures are standardised, (x - mean) / std, by `mean` and `std` in config.json, one "
        "value a feature. `zoo.predict` and `zoo.evaluate` take raw features and do it; a direct call takes "
        "standardised ones."
    )


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_plain(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
