"""`zoo.predict`: what a model answers to images, bags or sequences."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data import ImageNetInfo, infer_imagenet_subset
from torch import Tensor, nn

from zoo.device import check_device
from zoo.errors import DataError
from zoo.models.class_scores import as_logits
from zoo.models.data_config import data_config, words_of
from zoo.models.varifocal.output import VarifocalOutput
from zoo.naming import did_you_mean, known_keywords, natural_key
from zoo.training.bags_prediction import bag_answers
from zoo.training.data.decode import EXTENSIONS, read_image
from zoo.training.data.folder import image_files
from zoo.training.data.loader import Pipeline
from zoo.training.data.source import check_on_bad
from zoo.training.data.transform import eval_transform
from zoo.training.model_source import instance_shape, model_name, ready_model, refuse_tables
from zoo.training.options import check_batch_size
from zoo.training.progress import Progress
from zoo.training.sequences_prediction import sequence_answers
from zoo.training.super_resolution.task import is_super_resolution
from zoo.training.varifocal.answers import both_answers
from zoo.weights.config_checks import ordered_labels

#: Names that only a machine knows: of WordNet's synsets, and of Freebase's topics.
_CODE = re.compile(r"n\d{8}|/[mgt]/\w+")


@known_keywords
@torch.inference_mode()
def predict(
    model: Any,
    images: Any,
    top: int = 5,
    *,
    batch_size: int = 32,
    scale: float | None = None,
    multi_label: bool | None = None,
    on_bad: str = "raise",
    instances: int | None = None,
    device: str | torch.device | None = None,
) -> list[dict[str, Any]]:
    """The most probable classes of images, of bags, or of sequences.

    Args:
        model: a module, a registered name with weights, a run folder, `local-dir:…` or `hf-hub:…`.
        images: a path, a folder (with all folders below), a glob pattern, a PIL image, an array (H, W[, C]) or
            (N, H, W, C), a tensor (C, H, W) or (N, C, H, W); or a list of any of these. For a model of bags: a
            source of bags as `zoo.finetune` takes it, with or without labels, of which the test split is taken, or all
            if it has no splits; of bags:FOLDER every folder that holds images; or a list of arrays (n, …). For a model
            of sequences: a source of them as `zoo.finetune` takes it, in the same way, or texts of letters.
        top: how many classes to name, best first.
        batch_size: images or bags at a time.
        scale: value of white in float images above 1.
        multi_label: independent probabilities (sigmoid) instead of ones that add up to 1 (softmax). None: as the model
            was fine-tuned in this process, else softmax.
        on_bad: "raise" or "skip" for image files that cannot be read; those skipped are named on stderr.
        instances: of a bag, how many instances to return, those of the largest weights, these first; None for all, in
            their order.
        device: where to run; None for where the model is.

    Returns:
        One dictionary an image: `image` (its path, or its number), `label` and `probability` of the best class, and
        `top`, a list of {`label`, `index`, `probability`}. Class names come from the model; ImageNet's are known. Of a
        sequence `sequence` instead of `image`. Of a bag `bag`, and `instances`, a sequence of {`instance` (its file, or
        number), `weight` (its share in what the answer was made of, the mean of `heads`), `heads`}. What was decided on
        the way is noted on stderr. Of a network that looks twice `box` (x0, y0, x1, y1), as parts of the image, where
        it looked again, and of chromosomes `polarity` and `polarity_probability`; probabilities are calibrated by its
        temperature.

    Raises:
        DataError: no images, one that cannot be read, a model of tables or without a classifier, or an answer that is
            not finite.
        ValueError: `top` or `instances` below 1, or a device that is not there.
    """
    if isinstance(top, bool) or not isinstance(top, int) or top < 1:
        raise ValueError(f"top must be a whole number from 1, got {top!r}")
    if instances is not None and (isinstance(instances, bool) or not isinstance(instances, int) or instances < 1):
        raise ValueError(f"instances must be a whole number from 1, or None, got {instances!r}")
    check_batch_size(batch_size)
    check_device(device)
    check_on_bad(on_bad)
    net = ready_model(model)
    refuse_tables(net)
    if is_super_resolution(net):
        raise DataError(f"{model_name(net)} enlarges images and names no classes: zoo.upscale, zoo upscale")
    if getattr(net, "num_classes", None) == 0:
        raise DataError(
            f"{model_name(net)} has no classifier (num_classes=0), so it names no classes; build it with a classifier, "
            "or call it for its features"
        )
    home = next((p.device for p in net.parameters()), torch.device("cpu"))
    training = {m for m in net.modules() if m.training}
    if multi_label is None:
        multi_label = bool(getattr(net, "zoo_multi_label", False))
    found: list[dict[str, Any]] = []
    try:
        net.to(device or home).eval()
        if instance_shape(net) is not None:
            note = Progress(True, 1).note
            for name, row, weighed in bag_answers(
                net, images, batch_size, device or home, scale, on_bad=on_bad, note=note
            ):
                row = row.float().sigmoid() if multi_label else row.float().softmax(0)
                found_one = _answer(name, row, label_names(net, len(row)), top, what="bag")
                found.append({**found_one, "instances": weighed if instances is None else weighed.strongest(instances)})
            return found
        if words_of(net) is not None:
            for name, row in sequence_answers(net, images, batch_size, device or home, note=Progress(True, 1).note):
                row = row.float().sigmoid() if multi_label else row.float().softmax(0)
                found.append(_answer(name, row, label_names(net, len(row)), top, what="sequence"))
            return found
        config = data_config(net)
        pipeline = Pipeline(config["input_size"][0], eval_transform(config), scale)
        for names, batch in _batches(_each(images, on_bad), pipeline, batch_size):
            said = net(batch.to(device or home))
            output = as_logits(net, said)
            if not isinstance(output, Tensor) or output.ndim != 2:
                raise DataError(f"the model answers {_shape(output)}, not one row of class scores an image")
            bad = (~torch.isfinite(output).all(1)).nonzero()
            if len(bad):
                raise DataError(f"the model's answer to image {names[int(bad[0])]} is not finite")
            scores = output.float().sigmoid() if multi_label else output.float().softmax(1)
            labels, besides = label_names(net, scores.shape[1]), None
            if isinstance(said, VarifocalOutput):
                scores, besides = both_answers(net, said)
            rows = [_answer(name, row, labels, top) for name, row in zip(names, scores, strict=True)]
            found += rows if besides is None else [row | more for row, more in zip(rows, besides, strict=True)]
    finally:
        net.to(home)
        for module in net.modules():
            module.training = module in training
    return found


def label_names(net: nn.Module, count: int) -> list[str]:
    """What the model's classes are called: its own label names, ImageNet's, or numbers.

    Of label names that are codes (timm's `n01440764`) the texts that the model's `label_descriptions` give them.
    """
    cfg = getattr(net, "pretrained_cfg", None) or {}
    known, texts = cfg.get("label_names"), cfg.get("label_descriptions")
    if isinstance(known, Mapping):
        known = ordered_labels(known, count)
    if known and len(known) == count:
        texts = texts if isinstance(texts, Mapping) else {}
        return [texts.get(name, name) if _CODE.fullmatch(str(name)) else name for name in known]
    subset = infer_imagenet_subset(net)
    if subset:
        info = ImageNetInfo(subset)
        return [info.index_to_description(k) for k in range(count)]
    return [str(k) for k in range(count)]


def _answer(name: str, probabilities: Tensor, labels: list[str], top: int, *, what: str = "image") -> dict[str, Any]:
    values, indices = probabilities.cpu().topk(min(top, len(labels)))
    best = [
        {"label": labels[k], "index": k, "probability": v}
        for k, v in zip(indices.tolist(), values.tolist(), strict=True)
    ]
    return {what: name, "label": best[0]["label"], "probability": best[0]["probability"], "top": best}


def _batches(images: Iterable[tuple[str, Any]], pipeline: Pipeline, size: int) -> Iterator[tuple[list[str], Tensor]]:
    names: list[str] = []
    tensors: list[Tensor] = []
    for name, image in images:
        names.append(name)
        tensors.append(pipeline(image, name if isinstance(image, Image.Image) else f"image {name}"))
        if len(tensors) == size:
            yield names, torch.stack(tensors)
            names, tensors = [], []
    if tensors:
        yield names, torch.stack(tensors)


def _each(images: Any, on_bad: str) -> Iterator[tuple[str, Any]]:
    """(name, image) of everything in `images`; files are named by path, the rest by number."""
    number = bad = 0
    for image in _flatten(images):
        number += 1
        if not isinstance(image, Path):
            yield str(number - 1), image
            continue
        try:
            picture = read_image(image)
        except DataError:
            if on_bad == "raise":
                raise
            bad += 1
            Progress(True, 1).note(f"left out an unreadable image: {image}")
            continue
        yield str(image), picture
    if number == bad:
        raise DataError(f"none of the {number} image files can be read" if bad else "no images were given")


def _flatten(images: Any) -> Iterable[Any]:
    if isinstance(images, (str, os.PathLike)):
        return _paths(os.fspath(images))
    if isinstance(images, Image.Image):
        return [images]
    if isinstance(images, (np.ndarray, Tensor)):
        return list(images) if images.ndim == 4 else [images]
    if isinstance(images, Iterable):
        return (one for part in images for one in _flatten(part))
    raise DataError(f"cannot read images from a {type(images).__name__}; give paths, PIL images, arrays or tensors")


def _paths(text: str) -> list[Path]:
    path = Path(text).expanduser()
    if path.is_dir():
        found = image_files(path)
        if not found:
            raise DataError(f"no images ({', '.join(EXTENSIONS)}) in {text}")
        return found
    if path.is_file():
        return [path]
    if glob.has_magic(text):
        found = [Path(p) for p in sorted(glob.glob(str(path), recursive=True), key=natural_key) if Path(p).is_file()]
        if not found:
            raise DataError(f"no file matches {text!r}")
        return found
    near = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    raise DataError(f"no such image: {text!r}{did_you_mean(path.name, near)}")


def _shape(output: Any) -> str:
    return str(tuple(output.shape)) if isinstance(output, Tensor) else type(output).__name__
