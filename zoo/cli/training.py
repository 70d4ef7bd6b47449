"""`zoo train`, `zoo compare`, `zoo eval`, `zoo predict`."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from zoo.cli import _options as o
from zoo.cli._common import SLOTS, echo_json, friendly, print_table


def stoppable(command: Callable[..., Any]) -> Callable[..., Any]:
    """Ctrl-C ends with its message and exit code 130, as a shell expects."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt as stop:
            typer.echo(str(stop) or "stopped", err=True)
            raise typer.Exit(130) from None

    return run


@stoppable
@friendly
def train(
    context: typer.Context,
    model: o.Model,
    data: o.Data,
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/MODEL-DATA.")] = None,
    config: o.Config = None,
    head: o.Head = None,
    mlp: o.Mlp = None,
    mixer: o.Mixer = None,
    pool: o.Pool = None,
    act: o.Act = None,
    pretrained: o.Pretrained = None,
    model_arg: o.ModelArg = None,
    epochs: o.Epochs = 20,
    batch_size: o.BatchSize = None,
    accum: o.Accum = 1,
    lr: o.Lr = "auto",
    opt: o.Opt = "auto",
    weight_decay: o.WeightDecay = "auto",
    layer_decay: o.LayerDecay = None,
    sched: o.Sched = "cosine",
    warmup_epochs: o.WarmupEpochs = None,
    min_lr: o.MinLr = 0.0,
    aug: o.Aug = "light",
    hflip: o.Hflip = "auto",
    img_size: o.ImgSize = None,
    standardise: o.Standardise = None,
    max_instances: o.MaxInstances = None,
    scale: o.Scale = None,
    patch_size: o.PatchSize = 32,
    queries: o.Queries = None,
    epoch_patches: o.EpochPatches = None,
    phases: o.Phases = None,
    mixup: o.Mixup = 0.0,
    cutmix: o.Cutmix = 0.0,
    label_smoothing: o.LabelSmoothing = 0.0,
    class_weights: o.ClassWeights = None,
    ema: o.Ema = None,
    amp: o.Amp = "auto",
    clip_grad: o.ClipGrad = 1.0,
    on_nan: o.OnNan = "raise",
    freeze: o.Freeze = None,
    unfreeze: o.Unfreeze = None,
    lora: o.Lora = None,
    teacher: o.Teacher = None,
    distillation: o.Distillation = "hard",
    distillation_alpha: o.DistillationAlpha = 0.5,
    distillation_tau: o.DistillationTau = 1.0,
    recipe: o.Recipe = "auto",
    stitch_sampling: o.StitchSampling = "uniform",
    stitch_lr: o.StitchLr = None,
    stitch_init: o.StitchInit = True,
    early_stop: o.EarlyStop = None,
    monitor: o.Monitor = "auto",
    val: o.Val = None,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Go on with the run in --out, or remove it and start anew.")
    ] = True,
    save_every: Annotated[
        int | None, typer.Option(help="Checkpoint every so many updates; default every epoch and every 10 minutes.")
    ] = None,
    on_bad: o.OnBad = "raise",
    seed: o.Seed = 0,
    workers: o.Workers = "auto",
    device: o.Device = None,
    tracker: o.Tracker = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    quiet: o.Quiet = False,
) -> None:
    """Fine-tune MODEL on DATA; the same command again resumes a run that was cut off.

    Parts of the model can be replaced: zoo train resnet18 my_images --head kan

    Several GPUs: accelerate launch -m zoo train MODEL DATA …
    """
    options: dict[str, Any] = {
        **o.read_parts(head=head, mlp=mlp, mixer=mixer, pool=pool, act=act),
        **o.recipe(context),
        "out": out,
        "resume": "auto" if resume else False,
        "save_every": save_every,
    }
    if config is not None:
        options = o.with_config(options, config, context)
    parts = {slot: part for slot in SLOTS if (part := options.pop(slot)) not in (None, o.KEEP)}
    options["model_args"] = {**(options["model_args"] or {}), **parts} or None
    from zoo.training import finetune

    result = finetune(model, data, **options)
    if os.environ.get("RANK", "0") != "0":
        return  # one process of several speaks
    if as_json:
        echo_json({"folder": str(result.folder), **result.metrics})
        return
    typer.echo(f"folder\t{result.folder}")
    _print_metrics(result.metrics)


@stoppable
@friendly
def compare(
    context: typer.Context,
    base: Annotated[str, typer.Argument(metavar="BASE", help=o.MODEL_HELP)],
    data: o.Data,
    out: Annotated[Path | None, typer.Option(help="Folder; default runs/compare-BASE-DATA.")] = None,
    config: o.Config = None,
    head: Annotated[
        str | None, typer.Option("--head", metavar="CHOICES", help=f"Classifiers: {o.CHOICES_HELP}")
    ] = None,
    mlp: Annotated[
        str | None, typer.Option("--mlp", metavar="CHOICES", help="The same for feed-forward parts.")
    ] = None,
    mixer: Annotated[str | None, typer.Option("--mixer", metavar="CHOICES", help="The same for token mixers.")] = None,
    pool: Annotated[
        str | None, typer.Option("--pool", metavar="CHOICES", help="The same for the global pooling.")
    ] = None,
    act: Annotated[str | None, typer.Option("--act", metavar="CHOICES", help="The same for activations.")] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each variant, with the seeds --seed, --seed + 1, …")] = 1,
    pretrained: o.Pretrained = None,
    model_arg: o.ModelArg = None,
    epochs: o.Epochs = 20,
    batch_size: o.BatchSize = None,
    accum: o.Accum = 1,
    lr: o.Lr = "auto",
    opt: o.Opt = "auto",
    weight_decay: o.WeightDecay = "auto",
    layer_decay: o.LayerDecay = None,
    sched: o.Sched = "cosine",
    warmup_epochs: o.WarmupEpochs = None,
    min_lr: o.MinLr = 0.0,
    aug: o.Aug = "light",
    hflip: o.Hflip = "auto",
    img_size: o.ImgSize = None,
    standardise: o.Standardise = None,
    max_instances: o.MaxInstances = None,
    mixup: o.Mixup = 0.0,
    cutmix: o.Cutmix = 0.0,
    label_smoothing: o.LabelSmoothing = 0.0,
    class_weights: o.ClassWeights = None,
    ema: o.Ema = None,
    amp: o.Amp = "auto",
    clip_grad: o.ClipGrad = 1.0,
    on_nan: o.OnNan = "raise",
    freeze: o.Freeze = None,
    unfreeze: o.Unfreeze = None,
    lora: o.Lora = None,
    teacher: o.Teacher = None,
    distillation: o.Distillation = "hard",
    distillation_alpha: o.DistillationAlpha = 0.5,
    distillation_tau: o.DistillationTau = 1.0,
    early_stop: o.EarlyStop = None,
    monitor: o.Monitor = "auto",
    val: o.Val = None,
    on_bad: o.OnBad = "raise",
    seed: o.Seed = 0,
    workers: o.Workers = "auto",
    device: o.Device = None,
    tracker: o.Tracker = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what comparison.json holds.")] = False,
    quiet: o.Quiet = False,
) -> None:
    """Fine-tune variants of BASE on DATA under the same recipe: what they reach, and what they cost.

    zoo compare resnet18 my_images --head none,kan --epochs 10 --seeds 3

    Of several lists, every combination is trained. The same command again trains only what is not finished.
    """
    choices = {"head": head, "mlp": mlp, "mixer": mixer, "pool": pool, "act": act}
    options: dict[str, Any] = {
        **{slot: o.read_variants(slot, text) for slot, text in choices.items()},
        **o.recipe(context),
        "out": out,
        "seeds": seeds,
    }
    if config is not None:
        options = o.with_config(options, config, context)
    from zoo.training import compare as run_comparison

    comparison = run_comparison(base, data, **options)
    if as_json:
        echo_json({"folder": str(comparison.folder), **comparison.to_dict()})
    else:
        columns, rows, right = comparison.table()
        print_table(columns, rows, right=right)
    failed = [row for row in comparison.rows if row.error]
    for row in failed:
        typer.echo(f"error: {row.variant}: {row.error}", err=True)
    if failed:
        raise typer.Exit(1)


@stoppable
@friendly
def eval_(
    model: o.Model,
    data: o.Data,
    split: Annotated[
        str, typer.Option(help="train, val or test; a folder without splits is measured whole, as 'all'.")
    ] = "test",
    batch_size: Annotated[int, typer.Option(help="Images or bags at a time.")] = 64,
    workers: Annotated[int, typer.Option(help="Processes that read images.")] = 0,
    device: o.Device = None,
    amp: Annotated[str, typer.Option(help="Precision: no, auto, bf16 or fp16.")] = "no",
    on_bad: o.OnBad = "raise",
    among: Annotated[
        str, typer.Option(help="model: all its classes compete; data: those alone that the data have.")
    ] = "model",
    scale: Annotated[float | None, typer.Option(help="Super-resolution: how much larger images become.")] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            help="Super-resolution: argmax, adm, light or heavy, where pixels have classes; target: --budget."
        ),
    ] = None,
    budget: Annotated[
        float | None, typer.Option(help="Super-resolution: FLOPs as a part of what they are with all pixels heavy.")
    ] = None,
    k: Annotated[float, typer.Option("--cost-exponent", "-k", help="Of argmax; larger is cheaper.")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, with the confusion matrix.")] = False,
) -> None:
    """Measure MODEL on a split of DATA: accuracy, F1, AUROC, calibration; of enlarged photographs PSNR and SSIM."""
    from zoo.training import evaluate

    metrics = evaluate(
        model,
        data,
        split,
        batch_size=batch_size,
        workers=workers,
        device=device,
        amp=amp,
        on_bad=on_bad,
        among=among,
        scale=scale,
        policy={"policy": policy or "argmax", "k": k} if k else policy,
        budget=budget,
        detail=as_json,
    )
    if as_json:
        echo_json(metrics)
    else:
        _print_metrics(metrics)


@stoppable
@friendly
def predict(
    model: o.Model,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE",
            help="Image files, folders or glob patterns. For a model of bags: a source of bags as zoo train takes it, "
            ".npz or .safetensors of rows and offsets, or files of sequences.",
        ),
    ],
    top: Annotated[int, typer.Option(help="How many classes to name.")] = 5,
    batch_size: Annotated[int, typer.Option(help="Images or bags at a time.")] = 32,
    multi_label: Annotated[bool, typer.Option("--multi-label", help="Independent probabilities (sigmoid).")] = False,
    on_bad: o.OnBad = "raise",
    instances: Annotated[
        int | None, typer.Option(help="Of a bag, this many instances, the heaviest first; default all.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or mps; default the CPU.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Name the most probable classes of images, or of bags; of these, --json has what each instance weighs."""
    from zoo.training import predict as predict_images

    answers = predict_images(
        model,
        images[0] if len(images) == 1 else images,  # a list is of texts where a model takes sequences
        top,
        batch_size=batch_size,
        multi_label=multi_label or None,
        on_bad=on_bad,
        instances=instances,
        device=device,
    )
    if as_json:
        echo_json(answers)
        return
    what = next((kind for kind in ("bag", "sequence") if answers and kind in answers[0]), "image")
    rows = [
        [answer[what] if place == 0 else "", best["label"], f"{best['probability']:.4f}"]
        for answer in answers
        for place, best in enumerate(answer["top"])
    ]
    print_table([what, "class", "probability"], rows, right=("probability",))


def _print_metrics(metrics: dict[str, Any]) -> None:
    for name, value in metrics.items():
        shown = f"{value:.4f}" if isinstance(value, float) else "undefined" if value is None else str(value)
        typer.echo(f"{name}\t{shown}")
