"""The model that a call names: a module, a name, a run folder, a folder or repository with a config.json."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor, nn

from zoo.composition import SLOTS, Composed, is_composition
from zoo.errors import DataError, MissingFileError, TrainingError
from zoo.models.data_config import data_config, set_data_config, table_columns, words_of
from zoo.models.varifocal.cases import CaseModel
from zoo.registry import is_model, list_pretrained, model_entry, split_model_name_tag, weights_entry
from zoo.training.data.bags import BagSet
from zoo.training.data.image_set import ImageSet
from zoo.training.data.labels import some
from zoo.training.data.loader import Pipeline
from zoo.training.data.transform import eval_transform
from zoo.training.randomness import kept_random_state
from zoo.weights.config import CONFIG_NAME, read_config
from zoo.weights.config_checks import ordered_labels

#: Training images on which parts that begin as copies are fitted.
_EXAMPLES = 64


def model_name(model: Any) -> str:
    """A short name for folders and messages."""
    if isinstance(model, Composed):
        spec = model.zoo_composition.spec
        parts = (f"_{slot}_{choice.name.rpartition('/')[2]}" for slot, choice in spec.choices.items())
        return spec.base + "".join(parts)
    if isinstance(model, nn.Module):
        cfg = getattr(model, "pretrained_cfg", None) or {}
        return getattr(model, "zoo_name", None) or cfg.get("architecture") or type(model).__name__.lower()
    text = os.fspath(model)
    return Path(text).name if Path(text).is_dir() else text.rpartition("/")[2].rpartition(":")[2]


def resolve_name(model: str | os.PathLike[str]) -> str:
    """What `create_model` takes: run folders become `local-dir:RUN/best`, folders with a config `local-dir:FOLDER`.

    Raises:
        MissingFileError: a path to nothing, with near ones.
        TrainingError: a run without a best model, or with its weights alone.
    """
    text = os.fspath(model)
    folder = Path(text).expanduser()
    a_path = ":" not in text and ("/" in text or os.sep in text) and not is_model(text)
    if not folder.is_dir():
        if a_path:
            raise _no_model_at(str(folder))
        return text
    if (folder / "config.json").is_file():
        return f"local-dir:{folder}"
    if (folder / "best" / "config.json").is_file():
        return f"local-dir:{folder / 'best'}"
    if (folder / "best" / "model.safetensors").is_file():
        raise TrainingError(
            f"{folder / 'best'} holds the weights alone, for their model was made by no registered name: make it "
            f"again, and give it these by zoo.load_weights(model, {str(folder / 'best')!r})"
        )
    if (folder / "args.json").is_file():
        raise TrainingError(f"{folder} is a run that has no best model yet (no {folder / 'best' / 'config.json'})")
    return f"local-dir:{folder}" if a_path else text


def _no_model_at(folder: str) -> MissingFileError:
    from zoo.sources import no_folder

    told = str(no_folder(folder))
    return MissingFileError(
        f"{told}{'' if told.endswith('?') else '.'} A model is a name of `zoo list`, the folder of a run or of a saved "
        "model, or 'hf-hub:USER/NAME'"
    )


def model_class(model: Any) -> Any:
    """The class of a model, itself or by name, without building it; None where it is not known, as of timm's."""
    if isinstance(model, nn.Module):
        return type(model)
    if not isinstance(model, str | os.PathLike):
        return None
    name = resolve_name(model)
    if ":" in name:
        from zoo.sources import resolve

        name = resolve(name, {}, allow_pickle=False).architecture
    if not is_model(name):
        return None
    target = model_entry(name).load()
    if inspect.isclass(target) or not callable(target):
        return target
    return getattr(target, "__annotations__", {}).get("return")


def ready_model(model: Any) -> nn.Module:
    """A trained model: the module as it is, or built by name with its weights."""
    if isinstance(model, nn.Module):
        return model
    from zoo.factory import create_model

    return create_model(resolve_name(model), pretrained=True)


def refuse_tables(model: Any) -> None:
    """Refuse a model of tables, itself or by name, before images are looked for in its rows.

    Raises:
        DataError: it is one.
    """
    if _takes_tables(model):
        raise DataError(
            f"{model_name(model)} is a model of tables: use zoo.tabular (KANClassifier, KANRegressor), or call the "
            "model on rows, (rows, columns)"
        )


def _takes_tables(model: Any) -> bool:
    if isinstance(model, nn.Module):
        return table_columns(model) is not None
    name = resolve_name(model)
    scheme, _, folder = name.partition(":")
    if scheme == "local-dir" and (Path(folder) / CONFIG_NAME).is_file():
        return read_config(folder).table_task is not None
    known = inspect.signature(model_entry(name).load()).parameters if is_model(name) else ()
    return "in_features" in known and "task" in known


def model_for(
    model: Any,
    train: ImageSet,
    *,
    pretrained: bool | None,
    model_args: Mapping[str, Any] | None,
    transform: str | None = "auto",
    scale: float | None = None,
    img_size: int | None = None,
    num_classes: Any = None,
) -> tuple[nn.Module, list[str]]:
    """The model to train, with as many outputs as the data has classes, and notes on what was changed.

    `num_classes` says it for models of several tasks, of which the first is that of the data's classes. A name is
    built with the right number; a module of another size gets a new classifier by its own `reset_classifier`. The
    temperature of what the model was is forgotten. Parts put into a model with weights begin as copies, where they can,
    fitted to training images.

    Raises:
        DataError: a module of another size without `reset_classifier`.
        TrainingError: half-precision parameters.
    """
    classes, notes = len(train.classes), []
    tasks = classes if num_classes is None else num_classes
    if not isinstance(model, nn.Module):
        from zoo.factory import create_model

        name = resolve_name(model)
        if pretrained is None and ":" not in name:
            pretrained = starts_from_weights(name, None)
            if not pretrained and _has_weights(name):
                notes.append(f"{name} starts from random weights; pretrained=True (--pretrained) takes its checkpoint")
        sizes = {**_width(name, train), **fixed_size(name, img_size)}
        arguments = {"pretrained": pretrained, **sizes, **(model_args or {}), "num_classes": tasks}
        if pretrained is not False and _is_composed(name, arguments):
            arguments.setdefault("init_batches", _examples(name, arguments, train, transform, scale))
        keeps_head = pretrained is not False and arguments.get("head") is None
        known = _trained_classes(name) if keeps_head else (None, [])
        model = create_model(name, **arguments)
        notes += _copies(model) + _new_classifier(known, train)
    elif model_args or pretrained is not None:
        raise ValueError("pretrained and model_args are for a model given by name; this one is already built")
    elif getattr(model, "num_classes", classes) != classes:
        reset: Any = getattr(model, "reset_classifier", None)
        if reset is None:
            raise DataError(
                f"{model_name(model)} has {model.num_classes} classes, {train.name} has {classes}, and the model has "
                "no reset_classifier to change that; build it with the right number"
            )
        had: Any = model.num_classes
        known = had, _label_names(getattr(model, "pretrained_cfg", None))
        reset(tasks)
        notes += _new_classifier(known, train)
    refuse_half(model)
    return model, notes + _uncalibrated(model)


def refuse_half(model: nn.Module) -> None:
    """Refuse parameters that updates would be lost in.

    Raises:
        TrainingError: half-precision parameters.
    """
    half = next((n for n, p in model.named_parameters() if p.dtype in (torch.float16, torch.bfloat16)), None)
    if half is not None:
        raise TrainingError(
            f"the parameter {half!r} has half precision, in which updates are lost; call model.float() first and pass "
            "amp='bf16' (--amp bf16)"
        )


def _label_names(cfg: Mapping[str, Any] | None) -> list[str]:
    """The names of a model's classes, in order; none where they are not known."""
    known: Any = (cfg or {}).get("label_names") or ()
    if isinstance(known, Mapping):
        known = ordered_labels(known) or ()
    return list(known)


def _trained_classes(name: str) -> tuple[int | None, list[str]]:
    """How many classes the weights of a name are of, and their names, as far as both are known of ours."""
    if ":" in name:
        from zoo.sources import resolve

        config = resolve(name, {}, allow_pickle=False).config
        cfg = {} if config is None else config.pretrained_cfg
        names = _label_names(cfg)
        return cfg.get("num_classes") or len(names) or None, names
    entry = weights_entry(name) if is_model(name) else None
    names = [] if entry is None else list(entry.label_names)
    return (None if entry is None else entry.num_classes or len(names) or None), names


def _new_classifier(known: tuple[int | None, list[str]], train: ImageSet) -> list[str]:
    """That the classifier is a new one, for the data have another number of classes: which are new, which are missing.

    Args:
        known: how many the model had, None where nobody knows; their names, if it had any.
        train: the data.
    """
    (had, names), classes = known, train.classes
    if had in (None, len(classes)):
        return []
    new = [name for name in classes if names and name not in names]
    missing = [name for name in names if name not in classes]
    told = [f"{what}: {some(part)}" for what, part in (("new", new), ("missing", missing)) if part]
    note = f"the model had {had} outputs, the data has {len(classes)} classes"
    note += f" ({'; '.join(told)}): new classifier" if told else ": new classifier"
    if missing and not new:
        note += ". Data that name all of the model's classes keep the trained one: images.with_classes(names)"
    return [note]


def _class_notes(model: nn.Module, train: ImageSet) -> list[str]:
    """That a classifier which is kept is one of other classes, or of the same in another order."""
    known = _label_names(getattr(model, "pretrained_cfg", None))
    own_head = isinstance(model, Composed) and "head" in model.zoo_composition.spec.choices
    if own_head or len(known) != len(train.classes):
        return []
    differing = [pair for pair in zip(known, train.classes, strict=True) if pair[0] != pair[1]]
    if not differing:
        return []
    before, now = zip(*differing, strict=True)
    which = "the" if len(differing) == len(known) else f"{len(differing)} of the {len(known)}"
    return [
        f"{which} classes of the model are {some(before)}, those of the data {some(now)}: its classifier is kept, and "
        "goes on with these in this order"
    ]


def _uncalibrated(model: nn.Module) -> list[str]:
    """Forget the temperature of what the model was; a note if it had one."""
    if not isinstance(model, CaseModel) or model.temperature == (1.0, 1.0):
        return []
    was = model.temperature
    model.uncalibrate()
    return [f"the temperature {was} was of the model before this training: it is 1 again"]


def instance_shape(model: nn.Module) -> tuple[int | None, ...] | None:
    """Of an instance, for models that take bags of them, (None,) of a sequence; None for the other models."""
    return getattr(model, "instance_shape", None)


def _width(name: str, train: ImageSet) -> dict[str, int]:
    """`dim`, for a registered model of bags of vectors."""
    if not isinstance(train, BagSet) or not is_model(name) or split_model_name_tag(name)[1]:
        return {}
    known = "dim" in inspect.signature(model_entry(name).load()).parameters
    return {"dim": train.features} if known and train.features is not None else {}


def fixed_size(name: str, img_size: int | None) -> dict[str, int]:
    """`img_size`, for a registered model that takes it when it is built, and never again."""
    if img_size is None or not is_model(name):
        return {}
    target = model_entry(name).load()
    fixed = inspect.isclass(target) and not hasattr(target, "set_input_size")
    return {"img_size": img_size} if fixed and "img_size" in inspect.signature(target).parameters else {}


def starts_from_weights(model: Any, pretrained: bool | None) -> bool | None:
    """Whether a run starts from trained weights; `None` for a module, which is taken as it is."""
    if isinstance(model, nn.Module):
        return None
    name = resolve_name(model)
    return bool(split_model_name_tag(name)[1]) if pretrained is None and ":" not in name else pretrained is not False


def _is_composed(name: str, arguments: Mapping[str, Any]) -> bool:
    named = ":" not in name and is_model(name) and is_composition(model_entry(name))
    return named or any(arguments.get(slot) is not None for slot in SLOTS)


def _examples(
    name: str, arguments: Mapping[str, Any], train: ImageSet, transform: str | None, scale: float | None
) -> list[Tensor] | None:
    """Batches of training images, prepared as the model was trained; what begins as a copy is fitted to them.

    On random images, the default of `create_model`, the insides of a trained model look unlike those on real ones.
    `None` where the images are not of the model's size.
    """
    from zoo.factory import create_model

    plain = {k: v for k, v in arguments.items() if k not in SLOTS}
    with kept_random_state(), torch.device("meta"):
        try:
            config = data_config(create_model(name, **{**plain, "pretrained": False}))
        except (NotImplementedError, RuntimeError):  # a constructor that computes with values
            return None
    pipeline = Pipeline(config["input_size"][0], eval_transform(config) if transform == "auto" else None, scale)
    chosen = np.unique(np.linspace(0, len(train) - 1, _EXAMPLES).round().astype(int)).tolist()
    images = [pipeline(train.image(i), train.where(i)) for i in chosen]
    if any(tuple(image.shape) != tuple(config["input_size"]) for image in images):
        return None
    return list(torch.stack(images).split(16))


def _copies(model: nn.Module) -> list[str]:
    """A note on the parts that begin as copies of what they replace."""
    if not isinstance(model, Composed):
        return []
    errors = [c.error for c in model.zoo_composition.changes if c.init == "match" and c.error is not None]
    if not errors:
        return []
    what = f"{len(errors)} parts begin as copies" if len(errors) > 1 else "1 part begins as a copy"
    return [f"{what} of what was there, relative error up to {max(errors):.2g}"]


def _has_weights(name: str) -> bool:
    if is_model(name):
        return bool(list_pretrained(f"{model_entry(name).name}.*"))
    return timm.is_model_pretrained(name)


def set_image_size(model: nn.Module, size: int) -> None:
    """Let the model take images of `size` x `size`, and record it.

    Raises:
        ValueError: not a positive whole number, or a model that cannot change.
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError(f"img_size must be a whole number from 1, got {size!r}")
    change: Any = getattr(model, "set_input_size", None)
    if change is not None:
        change(img_size=(size, size))
    set_data_config(model, input_size=(data_config(model)["input_size"][0], size, size))


def describe_data(model: nn.Module, train: ImageSet, *, trained: bool) -> list[str]:
    """Record the class names and the preparation of images in the model, from where saving and the Hub take them.

    Args:
        model: the model.
        train: what it learns from.
        trained: whether what it knows comes from elsewhere, and so its classes have a meaning already.

    Returns:
        A note if that meaning is another.
    """
    notes = _class_notes(model, train) if trained else []
    if not isinstance(getattr(model, "pretrained_cfg", None), dict):
        return notes
    if words_of(model) is not None:
        set_data_config(model, label_names=train.classes)
        return notes
    config, bags = data_config(model), instance_shape(model) is not None
    # A model of bags has no input_size of its own, and of vectors perhaps no statistics.
    given = {key: config[key] for key in ("mean", "std", *(() if bags else ("input_size",)))}
    # Features of another number are refused where the first bag is prepared.
    names = train.feature_names if isinstance(train, BagSet) and instance_shape(model) == train.shape else None
    set_data_config(model, label_names=train.classes, feature_names=names, **given)
    return notes
