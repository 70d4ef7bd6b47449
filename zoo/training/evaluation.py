"""`zoo.evaluate`: a model's metrics on a split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.device import as_it_was, check_device
from zoo.errors import DataError, MissingExtraError
from zoo.naming import known_keywords
from zoo.training.data.image_set import ImageSet
from zoo.training.data.source import open_split
from zoo.training.metrics import measure_answers, numbers, own_metrics
from zoo.training.model_source import model_name, ready_model, refuse_tables
from zoo.training.options import check_batch_size
from zoo.training.preparation import pipeline_for
from zoo.training.progress import Progress
from zoo.training.super_resolution.task import is_super_resolution


@known_keywords
def evaluate(
    model: Any,
    data: Any,
    split: str = "test",
    *,
    batch_size: int = 64,
    scale: float | None = None,
    transform: Any = "auto",
    on_bad: str = "raise",
    workers: int = 0,
    device: str | None = None,
    amp: str = "no",
    metrics: Mapping[str, Any] | None = None,
    among: str = "model",
    policy: str | Mapping[str, Any] | None = None,
    budget: float | None = None,
    detail: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Measure a model on a split of images, of bags, or of sequences; or on photographs, one that enlarges images.

    Images are prepared by `zoo.data_config(model)`. When the model knows its label names, the data's classes are
    matched to them by name, in any order. Data may lack some of the model's classes: an answer of such a class is
    wrong, a note names them, and what needs a sample of every class is None.

    Args:
        model: a module, a registered name with weights, a run folder, `local-dir:…` or `hf-hub:…`.
        data: anything that `zoo.finetune` takes.
        split: "train", "val" or "test"; a source without splits is measured whole, as "all".
        batch_size: images or bags at a time.
        scale: value of white in float images above 1. Of a model that enlarges images: by how much; default its own.
        transform: "auto", or None for tensors that are ready for the model.
        on_bad: "raise" or "skip" for image files that cannot be read.
        workers: processes that read images.
        device: None for the best there is, or "cpu", "cuda", "mps".
        amp: "no", "bf16", "fp16" or "auto".
        metrics: further ones, {name: a torchmetrics `Metric` or `MetricCollection`, or a function}. Each is called
            once, on the CPU, with probabilities (N, K) and targets: class numbers (N,), or (N, K) zeros and ones with
            several labels an image. A `Binary…` metric of two classes gets the probability of the second, (N,).
        among: "model", where all of the model's classes compete; "data" leaves out the scores of classes that the data
            lack, with a note, as benchmarks on a part of ImageNet's classes do.
        policy: of a model that decides what pixels cost (`pcsr_…`): "argmax", "adm", "light" or "heavy", or options of
            its forward, {"policy": "argmax", "k": 0.5}.
        budget: of such a model: FLOPs as a part of what they are with all pixels heavy, which is the policy "target".
        detail: also return `classes` (by number, as the model has them), `confusion` (counts, a row a true class),
            `facts` (what is known of the data: licence, url, revision), and metrics of yours that give one value a
            class.
        progress: show a bar on a terminal, and notes.

    Returns:
        `split` ("all" where the source has none), `dataset` (and for one of the Hub its id, `dataset_type`), `samples`,
        `loss`, `accuracy`, `balanced_accuracy`, `f1` (macro), `auroc` (one-vs-rest, macro) and `auprc` (both None
        when a class has no sample), `ece`, and `top5` with more than five classes; for grades also `mae` and
        `quadratic_kappa`. With several labels an image: `loss`, `accuracy` (over images and labels), `exact` (all
        labels right), `f1`, `f1_micro`, `auroc`, `auprc`, `ece`. Ready for `zoo.push_to_hub(metrics=…)`.
        Of enlarged images: `psnr` and `ssim` over red, green and blue, and of luma alone (`psnr_y`, `ssim_y`), each of
        values in whole steps of 8 bits without a border of `scale` pixels, the mean over the photographs; the same of
        interpolation (`bicubic_psnr`, `bilinear_psnr`, …); where pixels have classes, `hard`, the part of them that is
        of any class but the lightest, and `fraction_0`, `fraction_1`, … of each; `flops` and `true_flops`. `detail`
        adds `images`.
        Of a network that looks twice also `global_accuracy` and `local_accuracy`, of each look alone (`loss` and `ece`
        are those of its probabilities, by its temperature); of chromosomes
        `polarity_accuracy` and `polarity_loss`, and where their cases are known `case_accuracy` (the mean over cases),
        `complete_cases` (the part that is right as a whole) and, after `zoo.karyotype.dispatch`, `dispatch_accuracy`,
        `dispatch_case_accuracy` and `dispatch_complete_cases`.

    Raises:
        DataError: the data cannot be read, or its classes are not the model's; a model of tables.
        ValueError: a device that is not there, a metric that fails or whose name is in use.
        MissingExtraError: without the extra `train`.
    """
    check_batch_size(batch_size)
    if among not in ("model", "data"):
        raise ValueError(f"among must be 'model' or 'data', got {among!r}")
    if transform not in ("auto", None):
        raise ValueError(f"transform must be 'auto' or None, got {transform!r}")
    show = Progress(progress, 1)
    check_device(device)
    refuse_tables(model)
    if is_super_resolution(model):
        if metrics or among != "model":
            raise ValueError("metrics, among: not for models that enlarge images")
        from zoo.training.super_resolution.evaluation import evaluate_super_resolution

        return evaluate_super_resolution(
            model, data, split, scale=scale, policy=policy, budget=budget, on_bad=on_bad, device=device, amp=amp,
            detail=detail, progress=show,
        )  # fmt: skip
    if policy is not None or budget is not None:
        asked = f"policy={policy!r}" if budget is None else f"budget={budget}"
        raise ValueError(f"{asked}: for models that decide what pixels of enlarged images cost")
    opened = open_split(data, split, on_bad=on_bad)
    images = opened.images
    for note in opened.notes:
        show.note(note)
    net = ready_model(model)
    images = with_classes_of(net, images)
    columns = _columns(net)
    answers, targets = run_model(
        net, images, scale=scale, transform=transform, batch_size=batch_size, workers=workers, device=device, amp=amp,
        progress=show, columns=columns,
    )  # fmt: skip
    logits = answers[:, : len(images.classes)]
    besides = {} if columns is None else columns.besides(images, answers, targets)
    classes, note = images.classes, None
    there = np.flatnonzero(np.isin(classes, opened.images.classes))
    # Labels are answered each by itself: data that say nothing of one do not say that it is wrong.
    if len(there) < len(classes) and (images.multi_label or among == "data"):
        left_out = [name for name in classes if name not in opened.images.classes]
        note = f"the model's answers to {_some(left_out)} are left out: {images.name} has no such label"
        classes = [classes[k] for k in there]
        logits = logits[:, there]
        targets = targets[:, there] if images.multi_label else torch.from_numpy(np.searchsorted(there, targets.numpy()))
    measured = measure_answers(logits, targets, multi_label=images.multi_label, ordinal=images.ordinal) | besides
    absent = [classes[k] for k in measured.get("auroc_absent", [])]
    if note is not None:
        show.note(note)
    if absent:
        show.note(f"no auroc: {_some(absent)} has no {images.noun} (or no other) in this split")
    context = {"split": opened.split, "dataset": opened.name}
    if "hub_id" in opened.facts:
        context["dataset_type"] = opened.facts["hub_id"]
    if metrics:
        taken = {*measured, *context, "classes", "facts"}
        measured |= own_metrics(metrics, logits, targets, multi_label=images.multi_label, taken=taken)
    details = {"classes": classes, "facts": opened.facts, **measured} if detail else numbers(measured)
    return {**context, **details}


def run_model(
    net: torch.nn.Module,
    images: ImageSet,
    *,
    scale: float | None,
    transform: Any,
    batch_size: int,
    workers: int,
    device: str | None,
    amp: str,
    progress: Progress,
    columns: Any = None,
) -> tuple[Tensor, Tensor]:
    """Logits and targets of a set; the model goes back to its device and mode afterwards.

    `columns`, a module with `width`, is asked in the place of a model that says more than its logits.
    """
    try:
        from zoo.training.engine import engine, resolve_amp
        from zoo.training.forward import all_logits
    except ImportError as error:
        raise MissingExtraError("zoo.evaluate", getattr(error, "name", None) or "accelerate", "train") from error
    pipeline = pipeline_for(net, images, transform=transform, scale=scale)
    progress.unit = progress.unit if images.noun == "image" else f"{images.noun}s"
    progress.start(0, len(images), 0, "measuring")
    try:
        with as_it_was(net), engine(resolve_amp(amp, device), device) as accelerator:
            net.to(accelerator.device)
            return all_logits(
                net if columns is None else columns,
                images,
                pipeline,
                accelerator,
                batch_size=batch_size,
                workers=workers,
                tick=progress.tick,
                width=None if columns is None else columns.width,
            )
    finally:
        progress.close()


def _columns(net: torch.nn.Module) -> Any:
    """What gives all that a network with several outputs says; None for the others."""
    from zoo.training.varifocal.task import looks_twice

    if not looks_twice(net):
        return None
    try:
        from zoo.training.varifocal.measure import Columns
    except ImportError as error:
        raise MissingExtraError("zoo.evaluate", getattr(error, "name", None) or "accelerate", "train") from error
    return Columns(net, net.stage)  # pyright: ignore - of networks that look twice


def with_classes_of(net: torch.nn.Module, images: ImageSet) -> ImageSet:
    """The set with its labels numbered as the model's classes, which are its own now.

    Raises:
        DataError: other names, or another number where the model knows no names.
    """
    cfg = getattr(net, "pretrained_cfg", None) or {}
    classes = images.classes
    known: list[str] = list(cfg.get("label_names") or ())
    count = getattr(net, "num_classes", None)
    numbered = classes == [str(k) for k in range(len(classes))]
    if known == classes or (not known and count in (None, len(classes))):
        return images
    if known and set(classes) <= set(known):
        return images.with_classes(known)
    if count == len(classes) and numbered:
        return images  # the data has no names of its own
    what = f"the classes {_some(known)}" if known else f"{count} classes"
    raise DataError(
        f"{model_name(net)} has {what}, {images.name} has {_some(classes)}; these must be among the model's"
    )


def _some(names: list[str], limit: int = 5) -> str:
    return ", ".join(repr(n) for n in names[:limit]) + (f", … ({len(names)})" if len(names) > limit else "")
