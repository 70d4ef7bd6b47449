"""`zoo train`, `zoo eval`, `zoo predict`."""

from __future__ import annotations

import functools
import json
import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from zoo.cli._common import echo_json, friendly, print_table

MODEL_HELP = "Registered name (see `zoo list`), run folder, local-dir:FOLDER or hf-hub:USER/REPO."
DATA_HELP = (
    "Folder CLASS/image.png or train/CLASS/image.png (with val/ and test/ beside it), MedMNIST .npz file, or 'digits'."
)


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
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    data: Annotated[str, typer.Argument(metavar="DATA", help=DATA_HELP)],
    out: Annotated[Optional[Path], typer.Option(help="Run folder; default runs/MODEL-DATA.")] = None,  # noqa: UP045
    config: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="TOML or JSON file of options by their Python names; options given here win."),
    ] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = 20,
    batch_size: Annotated[int, typer.Option(help="Images a batch (and process).")] = 64,
    accum: Annotated[int, typer.Option(help="Batches an update.")] = 1,
    lr: Annotated[str, typer.Option(help="Peak learning rate, or 'auto'.")] = "auto",
    opt: Annotated[str, typer.Option(help="timm's name of the optimiser.")] = "adamw",
    weight_decay: Annotated[float, typer.Option(help="Weight decay.")] = 0.05,
    layer_decay: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Learning-rate factor from layer to layer, e.g. 0.75."),
    ] = None,
    sched: Annotated[str, typer.Option(help="cosine, linear, step or constant.")] = "cosine",
    warmup_epochs: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Epochs of linear warm-up; default a tenth of all, at most 5."),
    ] = None,
    min_lr: Annotated[float, typer.Option(help="Learning rate at the end.")] = 0.0,
    aug: Annotated[str, typer.Option(help="Augmentation: none, light or timm (strong).")] = "light",
    hflip: Annotated[str, typer.Option(help="Probability of mirroring, or 'auto' (a half; 0 for digits).")] = "auto",
    img_size: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Height and width of the images; default the model's."),
    ] = None,
    mixup: Annotated[float, typer.Option(help="Alpha of mixup.")] = 0.0,
    cutmix: Annotated[float, typer.Option(help="Alpha of CutMix.")] = 0.0,
    label_smoothing: Annotated[float, typer.Option(help="Label smoothing, 0 to 1.")] = 0.0,
    class_weights: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="'balanced', or one number a class, separated by commas."),
    ] = None,
    ema: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Decay of a moving average of the weights, e.g. 0.999."),
    ] = None,
    amp: Annotated[str, typer.Option(help="Precision: auto, no, bf16 or fp16.")] = "auto",
    clip_grad: Annotated[float, typer.Option(help="Largest norm of the gradient; 0 for no limit.")] = 1.0,
    freeze: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="'backbone' (linear probe), 'blocks:-4' (all but the last 4), or a parameter-name pattern."),
    ] = None,
    unfreeze: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="EPOCHS:FREEZE, e.g. 3:blocks:-4 and 6:none: what is frozen after so many epochs."),
    ] = None,
    early_stop: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Stop after so many epochs without improvement."),
    ] = None,
    monitor: Annotated[
        str, typer.Option(help="Metric of the best epoch: accuracy, balanced_accuracy, f1, auroc, ece, loss, top5.")
    ] = "auto",
    val: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="What to validate on: a share such as 0.1, another source, or 'no'."),
    ] = None,
    pretrained: Annotated[
        Optional[bool],  # noqa: UP045
        typer.Option(
            "--pretrained/--from-scratch",
            help="Start from the model's weights; default: for NAME.TAG, run folders, local-dir: and hf-hub:.",
        ),
    ] = None,
    model_arg: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="KEY=VALUE for the model's constructor, e.g. drop_path_rate=0.1."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Go on with the run in --out, or remove it and start anew.")
    ] = True,
    save_every: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Checkpoint every so many updates; default every epoch and every 10 minutes."),
    ] = None,
    on_bad: Annotated[str, typer.Option(help="Unreadable image files: raise or skip.")] = "raise",
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    workers: Annotated[str, typer.Option(help="Processes that read images, or 'auto'.")] = "auto",
    device: Annotated[Optional[str], typer.Option(help="cpu, cuda or mps; default the best there is.")] = None,  # noqa: UP045
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")] = False,
) -> None:
    """Fine-tune MODEL on DATA; the same command again resumes a run that was cut off.

    Several GPUs: accelerate launch -m zoo train MODEL DATA …
    """
    options: dict[str, Any] = {
        "out": out,
        "epochs": epochs,
        "batch_size": batch_size,
        "accum": accum,
        "lr": _number_or_word(lr, "--lr"),
        "opt": opt,
        "weight_decay": weight_decay,
        "layer_decay": layer_decay,
        "sched": sched,
        "warmup_epochs": warmup_epochs,
        "min_lr": min_lr,
        "aug": aug,
        "hflip": _number_or_word(hflip, "--hflip"),
        "img_size": img_size,
        "mixup": mixup,
        "cutmix": cutmix,
        "label_smoothing": label_smoothing,
        "class_weights": _weights(class_weights),
        "ema": ema,
        "amp": amp,
        "clip_grad": clip_grad,
        "freeze": _one_or_many(freeze),
        "unfreeze": _unfreeze(unfreeze),
        "early_stop": early_stop,
        "monitor": monitor,
        "val": _val(val),
        "pretrained": pretrained,
        "model_args": _model_args(model_arg),
        "resume": "auto" if resume else False,
        "save_every": save_every,
        "on_bad": on_bad,
        "seed": seed,
        "workers": workers if workers == "auto" else int(_number_or_word(workers, "--workers")),
        "device": device,
        "progress": not quiet,
    }
    if config is not None:
        options = _with_config(options, config, context)
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
def eval_(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    data: Annotated[str, typer.Argument(metavar="DATA", help=DATA_HELP)],
    split: Annotated[
        str, typer.Option(help="train, val or test; a folder without splits is measured whole, as 'all'.")
    ] = "test",
    batch_size: Annotated[int, typer.Option(help="Images at a time.")] = 64,
    workers: Annotated[int, typer.Option(help="Processes that read images.")] = 0,
    device: Annotated[Optional[str], typer.Option(help="cpu, cuda or mps; default the best there is.")] = None,  # noqa: UP045
    amp: Annotated[str, typer.Option(help="Precision: no, auto, bf16 or fp16.")] = "no",
    on_bad: Annotated[str, typer.Option(help="Unreadable image files: raise or skip.")] = "raise",
    as_json: Annotated[bool, typer.Option("--json", help="JSON, with the confusion matrix.")] = False,
) -> None:
    """Measure MODEL on a split of DATA: accuracy, balanced accuracy, F1, AUROC, calibration."""
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
        detail=as_json,
    )
    if as_json:
        echo_json(metrics)
    else:
        _print_metrics(metrics)


@stoppable
@friendly
def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    images: Annotated[list[str], typer.Argument(metavar="IMAGE", help="Image files, folders or glob patterns.")],
    top: Annotated[int, typer.Option(help="How many classes to name.")] = 5,
    batch_size: Annotated[int, typer.Option(help="Images at a time.")] = 32,
    multi_label: Annotated[bool, typer.Option("--multi-label", help="Independent probabilities (sigmoid).")] = False,
    on_bad: Annotated[str, typer.Option(help="Unreadable image files: raise or skip.")] = "raise",
    device: Annotated[Optional[str], typer.Option(help="cpu, cuda or mps; default the CPU.")] = None,  # noqa: UP045
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Name the most probable classes of images."""
    from zoo.training import predict as predict_images

    answers = predict_images(
        model,
        images,
        top,
        batch_size=batch_size,
        multi_label=multi_label or None,
        on_bad=on_bad,
        device=device,
    )
    if as_json:
        echo_json(answers)
        return
    rows = [
        [answer["image"] if place == 0 else "", best["label"], f"{best['probability']:.4f}"]
        for answer in answers
        for place, best in enumerate(answer["top"])
    ]
    print_table(["image", "class", "probability"], rows, right=("probability",))


def _print_metrics(metrics: dict[str, Any]) -> None:
    for name, value in metrics.items():
        shown = f"{value:.4f}" if isinstance(value, float) else "undefined" if value is None else str(value)
        typer.echo(f"{name}\t{shown}")


def _number_or_word(text: str, option: str) -> float | str:
    if text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither a number nor 'auto'", param_hint=option) from None


def _weights(text: str | None) -> str | list[float] | None:
    if text is None or text == "balanced":
        return text
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        hint = "'balanced' or numbers separated by commas"
        raise typer.BadParameter(f"{text!r} is not {hint}", param_hint="--class-weights") from None


def _one_or_many(values: list[str] | None) -> str | list[str] | None:
    return values[0] if values and len(values) == 1 else values or None


def _unfreeze(values: list[str] | None) -> dict[int, str] | None:
    plan: dict[int, str] = {}
    for value in values or []:
        epoch, colon, spec = value.partition(":")
        if not colon or not epoch.isdigit() or not spec:
            raise typer.BadParameter(f"{value!r} is not EPOCHS:FREEZE, e.g. 3:blocks:-4", param_hint="--unfreeze")
        plan[int(epoch)] = spec
    return plan or None


def _val(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        return text


def _model_args(values: list[str] | None) -> dict[str, Any] | None:
    args: dict[str, Any] = {}
    for value in values or []:
        key, equals, text = value.partition("=")
        if not equals or not key.isidentifier():
            raise typer.BadParameter(f"{value!r} is not KEY=VALUE", param_hint="--model-arg")
        try:
            args[key] = json.loads(text)
        except ValueError:
            args[key] = text
    return args or None


def _with_config(options: dict[str, Any], path: Path, context: typer.Context) -> dict[str, Any]:
    """The options of a file beneath those that were written on the command line."""
    from zoo.errors import ConfigError
    from zoo.naming import check_keywords

    try:
        text = path.read_text("utf-8")
        stored = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except FileNotFoundError:
        raise ConfigError(f"there is no file {str(path)!r}") from None
    except ValueError as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    check_keywords(stored, options, f"zoo train --config {path}")
    if isinstance(stored.get("unfreeze"), dict):
        stored["unfreeze"] = {int(epoch): spec for epoch, spec in stored["unfreeze"].items()}
    sources = {name: context.get_parameter_source(_PARAMETERS.get(name, name)) for name in options}
    written = {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
    return {**options, **{name: value for name, value in stored.items() if name not in written}}


_PARAMETERS = {"model_args": "model_arg", "progress": "quiet"}
