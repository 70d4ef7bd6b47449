"""Options that several commands have, each said once, and how their text is read."""

import json
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

MODEL_HELP = "Registered name (see `zoo list`), run folder, local-dir:FOLDER or hf-hub:USER/REPO."
DATA_HELP = (
    "Folder CLASS/image.png or train/CLASS/image.png (with val/ and test/ beside it), table, MedMNIST .npz file, "
    "'digits' or 'fashion_mnist' ('digits?classes=3,6' for some classes). Bags: table with a column 'bag', .npz or "
    ".safetensors of rows, offsets and labels, bags:FOLDER, repertoires:TABLE, 'digits_bags' or 'fashion_mnist_bags'. "
    "Sequences: FASTA, table with a column 'sequence', sequences:FILE, or 'peptides'."
)
#: In the place of a module: the part that is there stays.
KEEP = "none"

CHOICES_HELP = "names or JSON objects separated by commas; 'none' keeps what the model has."

Model = Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)]
Data = Annotated[str, typer.Argument(metavar="DATA", help=DATA_HELP)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

# --- what a model is made of ------------------------------------------------------------------------------------------

Head = Annotated[
    str | None,
    typer.Option(
        "--head",
        help="""Module in the place of the classifier: a name, or {"type": name, "where": …, "init": …, options}.""",
        metavar="NAME|JSON",
    ),
]
Mlp = Annotated[
    str | None, typer.Option("--mlp", help="The same for the feed-forward parts of the blocks.", metavar="NAME|JSON")
]
Mixer = Annotated[
    str | None, typer.Option("--mixer", help="The same for the token mixers (attention).", metavar="NAME|JSON")
]
Pool = Annotated[str | None, typer.Option("--pool", help="The same for the global pooling.", metavar="NAME|JSON")]
Act = Annotated[str | None, typer.Option("--act", help="The same for the activations.", metavar="NAME|JSON")]
ModelArg = Annotated[
    list[str] | None, typer.Option(help="KEY=VALUE for the model's constructor, e.g. drop_path_rate=0.1.")
]
Pretrained = Annotated[
    bool | None,
    typer.Option(
        "--pretrained/--from-scratch",
        help="Start from the model's weights; default: for NAME.TAG, run folders, local-dir: and hf-hub:.",
    ),
]

# --- how it is trained ------------------------------------------------------------------------------------------------

Config = Annotated[
    Path | None, typer.Option(help="TOML or JSON file of options by their Python names; options given here win.")
]
Epochs = Annotated[int, typer.Option(help="Passes over the training images or bags.")]
BatchSize = Annotated[
    str | None,
    typer.Option(
        help="Images or bags a batch (and process), default 64, 16 patches for super-resolution; 'auto' or 'auto:256' "
        "halves it until a step fits into memory."
    ),
]
Accum = Annotated[int, typer.Option(help="Batches an update.")]
Lr = Annotated[str, typer.Option(help="Peak learning rate, or 'auto'.")]
Opt = Annotated[str, typer.Option(help="timm's name of the optimiser; auto: adamw, adam for super-resolution.")]
WeightDecay = Annotated[str, typer.Option(help="Weight decay; auto: 0.05, 0 for super-resolution.")]
LayerDecay = Annotated[float | None, typer.Option(help="Learning-rate factor from layer to layer, e.g. 0.75.")]
Sched = Annotated[str, typer.Option(help="cosine, linear, step or constant.")]
WarmupEpochs = Annotated[
    float | None, typer.Option(help="Epochs of linear warm-up; default a tenth of all, at most 5.")
]
MinLr = Annotated[float, typer.Option(help="Learning rate at the end.")]
Aug = Annotated[str, typer.Option(help="Augmentation: none, light or timm (strong).")]
Hflip = Annotated[str, typer.Option(help="Probability of mirroring images, or 'auto' (a half; 0 for digits).")]
Standardise = Annotated[
    bool | None,
    typer.Option(
        "--standardise/--no-standardise",
        help="Of bags of vectors: bring features to mean 0 and deviation 1 by the training split; default: new models.",
    ),
]
MaxInstances = Annotated[
    int | None, typer.Option(help="Of larger bags, draw so many instances anew each epoch of training.")
]
Scale = Annotated[
    float | None,
    typer.Option(help="Super-resolution: how much larger images become; else the value of white in float images."),
]
PatchSize = Annotated[int, typer.Option(help="Super-resolution: side of the squares of small images to learn from.")]
Queries = Annotated[
    int | None, typer.Option(help="Super-resolution of single pixels: so many of a patch; default all.")
]
EpochPatches = Annotated[
    int | None, typer.Option(help="Super-resolution: patches an epoch; default as many as cover the photographs.")
]
Phases = Annotated[
    str | None,
    typer.Option(help="Super-resolution: updates of each phase in place of --epochs, such as 20000,5000."),
]
ImgSize = Annotated[int | None, typer.Option(help="Height and width of the images; default the model's.")]
Mixup = Annotated[float, typer.Option(help="Alpha of mixup.")]
Cutmix = Annotated[float, typer.Option(help="Alpha of CutMix.")]
LabelSmoothing = Annotated[float, typer.Option(help="Label smoothing, 0 to 1.")]
ClassWeights = Annotated[str | None, typer.Option(help="'balanced', or one number a class, separated by commas.")]
Ema = Annotated[float | None, typer.Option(help="Decay of a moving average of the weights, e.g. 0.999.")]
Amp = Annotated[str, typer.Option(help="Precision: auto, no, bf16 or fp16.")]
ClipGrad = Annotated[float, typer.Option(help="Largest norm of the gradient; 0 for no limit.")]
OnNan = Annotated[
    str,
    typer.Option(
        help="Updates that are not finite: raise ends the run, skip leaves up to 5 in a row out and counts them."
    ),
]
Freeze = Annotated[
    list[str] | None,
    typer.Option(
        help="'backbone' (linear probe), 'blocks:-4' (all but the last 4), 'anchors' (of a stitched network), or a "
        "parameter-name pattern."
    ),
]
Unfreeze = Annotated[
    list[str] | None,
    typer.Option(help="EPOCHS:FREEZE, e.g. 3:blocks:-4 and 6:none: what is frozen after so many epochs."),
]
Lora = Annotated[
    str | None,
    typer.Option(
        "--lora",
        help="""Train adapters beside the linear layers: the rank, such as 8, or {"r": 8, "target": ["qkv"], …}.""",
        metavar="RANK|JSON",
    ),
]
Teacher = Annotated[
    str | None,
    typer.Option(
        "--teacher",
        help="A trained model whose answers are learned from, too: NAME.TAG, run folder, local-dir: or hf-hub:.",
        metavar="MODEL",
    ),
]
Distillation = Annotated[
    str, typer.Option(help="What is learned of the teacher: hard, its class; soft, its probabilities.")
]
DistillationAlpha = Annotated[float, typer.Option(help="The teacher's share in the loss, 0 to 1.")]
DistillationTau = Annotated[float, typer.Option(help="Temperature of soft distillation.")]
Recipe = Annotated[
    str,
    typer.Option(
        help="""How to train: auto, plain, varifocal (in stages), or {"name": "varifocal", "ranking": 1.0, options}.""",
        metavar="NAME|JSON",
    ),
]
StitchSampling = Annotated[
    str,
    typer.Option(
        "--stitch-sampling",
        help="""Paths of a stitched network to train: uniform, flops_groups, sandwich, or {"mode": …, options}.""",
        metavar="MODE|JSON",
    ),
]
StitchLr = Annotated[
    float | None, typer.Option(help="Peak learning rate of stitching layers; default --lr, which is the anchors'.")
]
StitchInit = Annotated[
    bool,
    typer.Option(
        "--stitch-init/--no-stitch-init", help="Let random stitching layers begin by least squares on some images."
    ),
]
EarlyStop = Annotated[int | None, typer.Option(help="Stop after so many epochs without improvement.")]
Monitor = Annotated[
    str,
    typer.Option(help="Metric of the best epoch: accuracy, balanced_accuracy, f1, auroc, auprc, ece, loss, top5, …"),
]
Val = Annotated[str | None, typer.Option(help="What to validate on: a share such as 0.1, another source, or 'no'.")]
OnBad = Annotated[str, typer.Option(help="Unreadable image files: raise or skip.")]
Seed = Annotated[int, typer.Option(help="Of everything random.")]
Workers = Annotated[str, typer.Option(help="Processes that read images, or 'auto'.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or mps; default the best there is.")]
Tracker = Annotated[
    list[str] | None,
    typer.Option(
        help="Record the run with tensorboard, trackio or wandb (offline unless WANDB_MODE is set); repeatable."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]

# --- reading what was written -----------------------------------------------------------------------------------------


def read_parts(**texts: str | None) -> dict[str, Any]:
    """Parts as `zoo.create_model` takes them: names, or the mappings that JSON objects are; 'none' keeps what is there.

    Raises:
        typer.BadParameter: several choices for a part, or no JSON.
    """
    parts: dict[str, Any] = {}
    for slot, text in texts.items():
        choices = read_choices(slot, text) if text is not None else [None]
        if len(choices) > 1:
            raise typer.BadParameter(f"{text!r} are {len(choices)} choices; one is wanted here", param_hint=f"--{slot}")
        parts[slot] = choices[0]
    return parts


def read_variants(slot: str, text: str | None) -> Any:
    """Choices as `zoo.compare` takes them: one, or a list."""
    choices = read_choices(slot, text) if text is not None else [None]
    return choices if len(choices) > 1 else choices[0]


def read_choices(slot: str, text: str) -> list[Any]:
    """Choices separated by commas, each a name or a JSON object.

    Raises:
        typer.BadParameter: nothing at all or between two commas, or no JSON.
    """
    found: list[Any] = []
    rest = text.strip()
    if not rest:
        words = f"it is empty: name a module (zoo list --kind {slot}), or {KEEP!r} to keep what the model has"
        raise typer.BadParameter(words, param_hint=f"--{slot}")
    while True:
        if rest.startswith("{"):
            try:
                value, end = json.JSONDecoder().raw_decode(rest)
            except ValueError as error:
                raise typer.BadParameter(f"{rest!r} is not JSON: {error}", param_hint=f"--{slot}") from None
            after = rest[end:].lstrip()
            if after and not after.startswith(","):
                raise typer.BadParameter(f"{after!r} after a JSON object", param_hint=f"--{slot}")
            comma, rest = after[:1], after[1:].lstrip()
        else:
            name, comma, rest = (part.strip() for part in rest.partition(","))
            if not name:
                raise typer.BadParameter(f"{text!r} has an empty choice", param_hint=f"--{slot}")
            value = None if name == KEEP else name
        found.append(value)
        if not comma:
            return found


def read_model_args(values: list[str] | None) -> dict[str, Any]:
    """KEY=VALUE pairs; values are JSON, or else text."""
    args: dict[str, Any] = {}
    for value in values or []:
        key, equals, text = value.partition("=")
        if not equals or not key.isidentifier():
            raise typer.BadParameter(f"{value!r} is not KEY=VALUE", param_hint="--model-arg")
        try:
            args[key] = json.loads(text)
        except ValueError:
            args[key] = text
    return args


def recipe(context: typer.Context) -> dict[str, Any]:
    """What the options of a command that trains say to `zoo.finetune`, under its names."""
    written = context.params
    options = {name: _READERS.get(name, _as_it_is)(written[name]) for name in _RECIPE if name in written}
    return {**options, "model_args": read_model_args(written["model_arg"]), "progress": not written["quiet"]}


_RECIPE = (
    "pretrained", "epochs", "batch_size", "accum", "lr", "opt", "weight_decay", "layer_decay", "sched",
    "warmup_epochs", "min_lr", "aug", "hflip", "img_size", "mixup", "cutmix", "label_smoothing", "class_weights",
    "ema", "amp", "standardise", "max_instances", "scale", "patch_size", "queries", "epoch_patches", "phases",
    "clip_grad", "on_nan", "freeze", "unfreeze", "lora", "teacher", "distillation", "distillation_alpha",
    "distillation_tau", "recipe", "stitch_sampling", "stitch_lr", "stitch_init", "early_stop", "monitor", "val",
    "on_bad", "seed", "workers", "device", "tracker",
)  # fmt: skip


def number_or_word(text: str, option: str) -> float | str:
    """A number, or 'auto'."""
    if text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither a number nor 'auto'", param_hint=option) from None


def read_workers(text: str) -> int | str:
    """A whole number, or 'auto'."""
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither a whole number nor 'auto'", param_hint="--workers") from None


def read_batch_size(text: str | None) -> int | str | None:
    """A whole number, or 'auto', or e.g. 'auto:256'."""
    if text is None or text.partition(":")[0] == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither a whole number nor 'auto'", param_hint="--batch-size") from None


def read_phases(text: str | None) -> tuple[int, ...] | None:
    """Whole numbers separated by commas."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r} are no whole numbers separated by commas", param_hint="--phases") from None


def read_lora(text: str | None) -> int | dict[str, Any] | None:
    """A rank, or a JSON object."""
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if isinstance(value, bool) or not isinstance(value, int | dict):
        raise typer.BadParameter(f"{text!r} is neither a rank such as 8 nor a JSON object", param_hint="--lora")
    return value


def read_word_or_json(text: str, option: str) -> str | dict[str, Any]:
    """A word, or a JSON object."""
    if not text.lstrip().startswith("{"):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not JSON: {error}", param_hint=option) from None


def read_class_weights(text: str | None) -> str | list[float] | None:
    """'balanced', or numbers."""
    if text is None or text == "balanced":
        return text
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        hint = "'balanced' or numbers separated by commas"
        raise typer.BadParameter(f"{text!r} is not {hint}", param_hint="--class-weights") from None


def one_or_many(values: list[str] | None) -> str | list[str] | None:
    """The only value, or the list."""
    return values[0] if values and len(values) == 1 else values or None


def read_unfreeze(values: list[str] | None) -> dict[int, str] | None:
    """EPOCHS:FREEZE pairs."""
    plan: dict[int, str] = {}
    for value in values or []:
        epoch, colon, spec = value.partition(":")
        if not colon or not epoch.isdigit() or not spec:
            raise typer.BadParameter(f"{value!r} is not EPOCHS:FREEZE, e.g. 3:blocks:-4", param_hint="--unfreeze")
        plan[int(epoch)] = spec
    return plan or None


def read_val(text: str | None) -> Any:
    """A share, or a source."""
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        return text


def _as_it_is(value: Any) -> Any:
    return value


_READERS: dict[str, Callable[[Any], Any]] = {
    "batch_size": read_batch_size,
    "lora": read_lora,
    "recipe": lambda text: read_word_or_json(text, "--recipe"),
    "stitch_sampling": lambda text: read_word_or_json(text, "--stitch-sampling"),
    "tracker": one_or_many,
    "lr": lambda text: number_or_word(text, "--lr"),
    "weight_decay": lambda text: number_or_word(text, "--weight-decay"),
    "phases": read_phases,
    "hflip": lambda text: number_or_word(text, "--hflip"),
    "class_weights": read_class_weights,
    "freeze": one_or_many,
    "unfreeze": read_unfreeze,
    "standardise": lambda given: "auto" if given is None else given,
    "val": read_val,
    "workers": read_workers,
}
_PARAMETERS = {"model_args": "model_arg", "progress": "quiet"}


def with_config(options: Mapping[str, Any], path: Path, context: typer.Context) -> dict[str, Any]:
    """The options of a file beneath those that were written on the command line.

    Raises:
        ConfigError: no such file, or not TOML or JSON.
        TypeError: an option that there is not.
    """
    from zoo.errors import ConfigError
    from zoo.naming import check_keywords

    try:
        text = path.read_text("utf-8")
        stored = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except FileNotFoundError:
        raise ConfigError(f"there is no file {str(path)!r}") from None
    except ValueError as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    if not isinstance(stored, dict):
        raise ConfigError(f"{path} must hold an object of options, holds a {type(stored).__name__}")
    check_keywords(stored, options, f"zoo {context.info_name} --config {path}")
    if isinstance(stored.get("unfreeze"), dict):
        stored["unfreeze"] = {int(epoch): spec for epoch, spec in stored["unfreeze"].items()}
    sources = {name: context.get_parameter_source(_PARAMETERS.get(name, name)) for name in options}
    written = {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
    return {**options, **{name: value for name, value in stored.items() if name not in written}}
