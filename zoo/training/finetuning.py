"""`zoo.finetune`: from a model and data to a trained model, its metrics and its run folder."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from zoo.composition import SLOTS
from zoo.errors import MissingExtraError
from zoo.naming import known_keywords
from zoo.training.data.bags import BagSet
from zoo.training.data.image_set import ImageSet
from zoo.training.data.sequences import SequenceSet
from zoo.training.data.source import open_splits
from zoo.training.freeze import FreezeSpec
from zoo.training.grid_coverage import coverage_notes
from zoo.training.lora import lora_adapters
from zoo.training.model_source import (
    describe_data,
    model_for,
    model_name,
    refuse_tables,
    set_image_size,
    starts_from_weights,
)
from zoo.training.options import check_seed
from zoo.training.out_folder import check_out
from zoo.training.preparation import cut_notes, in_order_of, pipeline_for
from zoo.training.progress import Progress
from zoo.training.randomness import derive, kept_random_state, seed_all
from zoo.training.result import Callback, Result, check_callbacks
from zoo.training.settings import resolve
from zoo.training.standardise import check_standardise
from zoo.training.standardise import standardise as standardise_features
from zoo.training.super_resolution.task import is_super_resolution
from zoo.training.tracking import check_trackers

#: Images by which the inputs of KAN layers are judged.
_GRID_IMAGES = 32

P = ParamSpec("P")
R = TypeVar("R")


def _parts_go_into_the_model(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate: a part of a model that is given as a setting is a TypeError that says where it goes."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        for slot in SLOTS:
            if slot in kwargs:
                part = repr(kwargs[slot]) if isinstance(kwargs[slot], str | Mapping) else "…"
                raise TypeError(
                    f"zoo.{function.__name__} takes no argument {slot!r}: parts are put into the model, by "
                    f"zoo.create_model(name, {slot}={part}); or, when the model is given by name, by "
                    f'model_args={{"{slot}": {part}}}'
                )
        return function(*args, **kwargs)

    return call


@_parts_go_into_the_model
@known_keywords
def finetune(
    model: str | os.PathLike[str] | nn.Module,
    data: Any,
    *,
    val: Any = None,
    out: str | os.PathLike[str] | None = None,
    epochs: int = 20,
    batch_size: int | str | None = None,
    lr: float | str = "auto",
    opt: str = "auto",
    weight_decay: float | str = "auto",
    layer_decay: float | None = None,
    sched: str = "cosine",
    warmup_epochs: float | None = None,
    min_lr: float = 0.0,
    mixup: float = 0.0,
    cutmix: float = 0.0,
    label_smoothing: float = 0.0,
    class_weights: str | Sequence[float] | Mapping[str, float] | None = None,
    ema: float | None = None,
    amp: str = "auto",
    clip_grad: float | None = 1.0,
    on_nan: str = "raise",
    accum: int = 1,
    freeze: FreezeSpec = None,
    unfreeze: Mapping[int, FreezeSpec] | None = None,
    lora: int | Mapping[str, Any] | None = None,
    teacher: Any = None,
    distillation: str = "hard",
    distillation_alpha: float = 0.5,
    distillation_tau: float = 1.0,
    recipe: str | Mapping[str, Any] = "auto",
    stitch_sampling: str | Mapping[str, Any] = "uniform",
    stitch_lr: float | None = None,
    stitch_init: bool = True,
    early_stop: int | None = None,
    monitor: str = "auto",
    aug: str = "light",
    hflip: float | str = "auto",
    img_size: int | None = None,
    transform: Any = "auto",
    scale: float | None = None,
    standardise: bool | str = "auto",
    max_instances: int | None = None,
    patch_size: int = 32,
    queries: int | None = None,
    epoch_patches: int | None = None,
    phases: Sequence[int] | None = None,
    on_bad: str = "raise",
    pretrained: bool | None = None,
    model_args: Mapping[str, Any] | None = None,
    resume: str | bool = "auto",
    save_every: int | None = None,
    keep_last: int = 2,
    seed: int = 0,
    workers: int | str = "auto",
    device: str | None = None,
    tracker: Any = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
) -> Result:
    """Fine-tune a model on images, on bags of instances, on sequences of letters, or to enlarge images.

    The run is kept in a folder and can be cut off at any time (Ctrl-C, SIGTERM, power): the same call goes on where it
    stopped. On a CPU the resumed run ends in the very same weights as one that was never stopped, because the order of
    the data is a function of (seed, epoch) and every update draws its random numbers from (seed, update).

    It is written on Accelerate: under `accelerate launch` the same script uses several GPUs or machines.

    Args:
        model: a registered name of ours or timm's, a run folder, `local-dir:…`, `hf-hub:…`, or a module. A name is
            built with as many outputs as the data has classes; a module of another size gets a new classifier, and a
            note names the classes that are new or missing.
        data: a folder `class/image.png` or `train/class/image.png` (with val and test beside it); a table `labels.csv`,
            `.tsv` or `.parquet`; a MedMNIST `.npz`; "digits"; "hf:user/dataset"; WebDataset shards `wds:FOLDER`; a pair
            of arrays (images, labels); a DataFrame; a torch or Hugging Face Dataset; or a dictionary of these with the
            keys train, val and test. Bags, for a model that takes them (`hopfield_mil`): a table with a column `bag`;
            `.npz`, `.safetensors` or a dictionary of `rows`, `offsets` and `labels`; `bags:FOLDER` of
            `class/bag/image.png`; `repertoires:TABLE` of files of sequences, for `deeprc_cnn`. Sequences, for a model
            that takes them (`qtn_uptn_aa`): "peptides", FASTA, a table with a column `sequence`, `sequences:FILE`.
            Photographs, for a model that enlarges images (`pcsr_carn_x4`): a folder, pattern or list of them, of which
            small ones are made; or a folder with HR/ and LR/, the small ones of the same names; with train/, val/ and
            test/ above them if you like.
        val: what to compare epochs on. None: the data's own split, else 20 % of training, class by class, of
            chromosomes whole cases. A number between 0 and 1: that share. False or "no": nothing, the last epoch counts
            as the best. Else a source.
        out: run folder: new, empty, or an earlier run's, and apart from the data. Default: `runs/MODEL-DATA`, numbered
            if that is taken.
        epochs: passes over the training split.
        batch_size: images a batch and process; default 64, and 16 patches to learn to enlarge them. An update sees
            batch_size * accum * processes images. "auto" tries 64 (or "auto:256" as many), and halves the batch and
            doubles `accum` until a training step fits into memory.
        lr: peak learning rate. "auto": 5e-4 for Adam-like optimisers at 64 images an update (growing with the square
            root of their number), 0.02 for SGD (growing linearly); for a linear probe 5e-3 and 0.1.
        opt: timm's name of the optimiser. "auto": AdamW; Adam to learn to enlarge images.
        weight_decay: "auto" is 0.05, and 0 to learn to enlarge images; not applied to norms, biases and what the model
            names in `no_weight_decay()`.
        layer_decay: factor on the learning rate from each group of layers to the one before, e.g. 0.75.
        sched: "cosine", "linear", "step" (a tenth after each third) or "constant", stepped every update.
        warmup_epochs: of linear growth; default a tenth of the epochs, at most 5. A fraction is fine.
        min_lr: learning rate at the end of "cosine" and "linear".
        mixup: alpha of mixup, 0 for none.
        cutmix: alpha of CutMix, 0 for none; with both, each is used half of the time.
        label_smoothing: from 0 to 1.
        class_weights: None, "balanced", one number a class, or {class name: number}.
        ema: decay of a moving average of the weights, e.g. 0.999, or None. It is measured beside the model, and the
            better of the two is kept.
        amp: "auto" (bfloat16 on CUDA, nothing elsewhere), "no", "bf16" or "fp16".
        clip_grad: largest norm of the gradient; None or 0 for no limit.
        on_nan: what to do about an update whose loss or gradients are not finite: "raise" ends the run and says where
            the NaN came from; "skip" leaves such updates out and counts them, and gives up after five in a row.
        accum: batches an update.
        freeze: "backbone" trains the classifier alone; "blocks:-4" the last four groups of layers; "anchors", of a
            stitched network, its stitching layers alone; or patterns of parameter names that stay fixed. Batch norm
            and dropout of frozen modules run as in evaluation.
        unfreeze: {finished epochs: `freeze` from then on}, e.g. {3: "blocks:-4", 6: None}.
        lora: train small matrices beside the linear layers instead of these (LoRA), and the classifier and layers such
            as KAN as usual: the rank, or {"r": 8, "alpha": 16, "dropout": 0.0, "target": ["qkv", "fc1"]}. Default
            target: every linear layer outside the classifier. With `freeze`, adapters of frozen layers stay fixed, too.
            At the end they are added to the weights: the result is a plain model.
        teacher: a trained model whose answers are learned from as well: a module, a name with weights such as
            "regnety_160.deit_in1k", a run folder, `local-dir:…` or `hf-hub:…`; with the classes of the data. It sees
            the same augmented and mixed images, brought to its own size and statistics.
        distillation: "hard", cross-entropy with the teacher's most probable class; or "soft", the divergence from its
            probabilities.
        distillation_alpha: share of that in the loss, from 0 to 1; the rest is what the loss is without a teacher.
        distillation_tau: temperature of "soft".
        recipe: "auto", in stages for networks that look twice (`varifocal…`) and plain for all others; "plain"; or
            "varifocal", in stages: the global scale, the box, the local scale, the decision on both, for 60, 20, 40 and
            20 parts of the epochs, AdamW at 1e-3 along a cosine in each, weight decay 1e-4. With options,
            {"name": "varifocal", "epochs": [60, 20, 40, 20], "region": "foreground" or "pseudo" (what rough boxes come
            from), "half": 0.25, "threshold": 0.25, "ranking": 0.0}.
        stitch_sampling: of a stitched network, which paths an update trains: "uniform", one of all; "flops_groups", one
            of a group of about equal cost; "sandwich", the cheapest, the dearest and one more; or with options,
            {"mode": "sandwich", "count": 2}, {"mode": "flops_groups", "width": 1e9}, {"per_rank": False}. Epochs are
            compared by the path that is set on the model.
        stitch_lr: peak learning rate of stitching layers; default `lr`, which is then the anchors'.
        stitch_init: let stitching layers that still are random begin by least squares on 100 training images.
        early_stop: stop after so many epochs without improvement.
        monitor: metric that chooses the best epoch: "accuracy", "balanced_accuracy", "f1", "auroc", "auprc", "ece",
            "loss" or "top5"; with several labels an image "exact" and "f1_micro", with grades "mae" and
            "quadratic_kappa"; of enlarged images "psnr", "ssim", and of luma alone "psnr_y", "ssim_y". "auto":
            accuracy; auroc where images carry several labels; psnr.
        aug: "none", "light" (crops of 70-100 %, mirroring) or "timm" (strong: RandAugment, erasing).
        hflip: probability of mirroring; "auto" is a half, and 0 for digits. Set 0 where left and right matter.
        img_size: height and width that images are resized to, instead of the model's own.
        transform: "auto", or None for tensors that are ready for the model.
        scale: value of white in float images above 1. Of a model that enlarges images: how much larger they become,
            which is the model's own from then on; default what it was made for.
        standardise: bring every feature of bags of vectors to mean 0 and deviation 1 by the statistics of the training
            instances, which the model keeps, so that it takes raw features afterwards. "auto": of a new model; a
            trained one is used as it was trained.
        max_instances: of larger bags, so many instances are drawn anew each epoch in training; all are used to measure.
        patch_size: of models that enlarge images: side of the squares of the small images that are learned from.
        queries: pixels drawn of each patch, for models that learn single pixels (`pcsr_…`); default all.
        epoch_patches: patches an epoch; default as many as cover the photographs once.
        phases: updates of each phase of `pcsr_…`, (backbone and heavy network, light network and classifier), in place
            of `epochs`, of which the second phase gets a third; of other models that enlarge images, (updates,).
        on_bad: "raise" or "skip" for image files that cannot be read.
        pretrained: for a model given by name: start from its weights. Default: yes for a name with a tag, a run folder,
            `local-dir:` and `hf-hub:`; no for a plain name.
        model_args: further options of `zoo.create_model` for a model given by name: {"drop_path_rate": 0.1}, or parts
            to be replaced, {"head": "kan", "mlp": {"type": "kan", "where": "last:4"}}. In a model with weights, parts
            that can begin as copies of what was there are fitted to some training images.
        resume: "auto" goes on with the run in `out` if there is one; False removes that run's own files and starts
            anew; True wants one.
        save_every: write a checkpoint every so many updates. Default: after every epoch and every ten minutes.
        keep_last: checkpoints to keep.
        seed: of everything random.
        workers: processes that read images. "auto": 0 on a CPU, up to 8 with a GPU.
        device: None for the best there is, or "cpu", "cuda", "mps".
        tracker: "tensorboard" (into the run folder), "trackio" (on this machine), "wandb" (offline, unless WANDB_MODE
            says otherwise), a GeneralTracker of Accelerate, or a list of these: they get the settings and the numbers
            of every epoch. None: history.csv alone.
        callbacks: functions that are called after every epoch, in the first process, with a `Result` of what there is
            so far: the model in training, the epoch's metrics on the validation split, the history. An error that one
            raises ends the run, which can then be resumed; what it returns is ignored.
        progress: bar and lines on stderr.

    Returns:
        The `Result`; its model carries label names and data configuration, ready for `zoo.push_to_hub`.

    Raises:
        ValueError: a setting out of range; the message says what is allowed.
        TypeError: a setting that there is not, with near names; parts of the model (`head`, …), with where they go.
        DataError: data that cannot be used; a model of tables.
        TrainingError: a run that cannot go on: another run in `out`, non-finite loss (`NonFiniteLossError`), no memory
            (`OutOfMemoryError`).
        MissingExtraError: without the extra `train`.
        KeyboardInterrupt, SystemExit: on Ctrl-C and SIGTERM, after writing a checkpoint.
    """
    given = dict(locals())
    try:
        import torchmetrics  # noqa: F401 - wanted at the end of an epoch; better missed now

        from zoo.training.conduct import begun, conduct
        from zoo.training.distillation import taught_by
        from zoo.training.engine import check_accelerate_device
        from zoo.training.loop import Loop
        from zoo.training.stitching import begin, options_for
        from zoo.training.super_resolution.finetuning import finetune_super_resolution
        from zoo.training.varifocal.finetuning import finetune_in_stages
        from zoo.training.varifocal.task import in_stages
    except ImportError as error:
        raise MissingExtraError("zoo.finetune", getattr(error, "name", None) or "accelerate", "train") from error
    if resume not in ("auto", True, False):
        raise ValueError(f"resume must be 'auto', True or False, got {resume!r}")
    check_accelerate_device(device)
    trackers = check_trackers(tracker)
    check_callbacks(callbacks)
    check_seed(seed)
    check_standardise(standardise)
    check_out(out, data, val)
    refuse_tables(model)
    staged = in_stages(model, recipe)
    if is_super_resolution(model):
        return finetune_super_resolution(given, trackers)
    if staged:
        return finetune_in_stages(given, trackers)
    show = Progress(progress and int(os.environ.get("RANK", "0")) == 0, epochs)
    with kept_random_state():
        splits = open_splits(data, val=val, seed=seed, on_bad=on_bad)
        train = splits.present()["train"]
        show.unit = show.unit if train.noun == "image" else f"{train.noun}s"
        if isinstance(train, BagSet | SequenceSet):
            _refuse_what_is_for_images(given, "bags of instances" if isinstance(train, BagSet) else "sequences")
        if not isinstance(train, BagSet) and max_instances is not None:
            raise ValueError(f"max_instances is for bags of instances, the data are {train.noun}s")
        name = model_name(model)
        options = resolve(given, splits, name)
        seed_all(derive(seed, "model"))
        net, notes = model_for(
            model,
            train,
            pretrained=pretrained,
            model_args=model_args,
            transform=transform,
            scale=scale,
            img_size=img_size,
        )
        options = options_for(net, options)
        if img_size is not None:
            set_image_size(net, img_size)
        if isinstance(train, BagSet):
            train = splits.train = in_order_of(net, train)
        notes += standardise_features(net, train, standardise, trained=bool(starts_from_weights(model, pretrained)))
        notes += describe_data(net, train, trained=starts_from_weights(model, pretrained) is not False)
        notes += cut_notes(net, splits.present().values(), how="; max_len=, --model-arg max_len=, sets this")
        if isinstance(train, BagSet):
            splits.train = train.at_most(max_instances)
            others = {name: bags for name, bags in splits.present().items() if name != "train"}
            for name_of_split, bags in others.items():
                setattr(splits, name_of_split, in_order_of(net, bags) if isinstance(bags, BagSet) else bags)
        net.zoo_multi_label = train.multi_label  # type: ignore[assignment] - read by zoo.predict
        for note in [*splits.notes, *notes]:
            show.note(note)
        prepared: dict[str, Any] = {"transform": transform, "scale": scale}
        pipelines = (
            pipeline_for(net, train, aug=aug, hflip=options.hflip, **prepared),
            pipeline_for(net, train, **prepared),
        )
        if not isinstance(train, BagSet | SequenceSet):
            for note in coverage_notes(net, lambda: _first_images(net, train, pipelines[1], _GRID_IMAGES)):
                show.note(note)
        seed_all(derive(seed, "lora"))
        unused = bool(unfreeze) or options.stitch_sampling is not None
        with (
            taught_by(teacher, net, train, options, transform=transform, scale=scale) as guide,
            lora_adapters(net, options.lora, lambda: _first_images(net, train, pipelines[1], 2)) as adapters,
            begun(net, options, given, name=name, data=splits.name, beside=guide and guide.model, unused=unused) as run,
        ):
            place = run.accelerator.device
            if not run.goes_on:
                begin(net, options, functools.partial(_some_images, net, train, pipelines[1], place), show)
            loop = Loop(net, splits, pipelines, run.options, run.folder, run.accelerator, show, adapters, guide)
            return conduct(loop, name, given, trackers, before_end=run.give_back)


def _refuse_what_is_for_images(given: Mapping[str, Any], data: str) -> None:
    """Refuse what is for images.

    Raises:
        ValueError: naming it.
    """
    set_for_images = [name for name in ("mixup", "cutmix", "img_size", "lora") if given[name]]
    if set_for_images:
        raise ValueError(f"{', '.join(set_for_images)}: for models of images, the data are {data}")


def _first_images(net: nn.Module, train: ImageSet, pipeline: Callable[[Any, str], Any], count: int) -> Tensor:
    """The first training images, so many, as the model takes them and on its device."""
    images = torch.stack([pipeline(train.image(i), train.where(i)) for i in range(min(count, len(train)))])
    return images.to(next(net.parameters()).device)


def _some_images(
    net: nn.Module, train: ImageSet, pipeline: Callable[[Any, str], Any], device: torch.device, count: int
) -> Tensor:
    """So many training images at equal distances, as for evaluation, on the device that the model is moved to."""
    net.to(device)
    count = min(count, len(train))
    places = (i * len(train) // count for i in range(count))
    return torch.stack([pipeline(train.image(i), train.where(i)) for i in places]).to(device)
