"""Training a stitched network: the paths of every update, its learning rates, and how its layers begin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import Tensor, nn

from zoo.models.stitching.network import StitchNet
from zoo.models.stitching.sampling import StitchSampler, check_sampling, learning_ids
from zoo.training.options import Options
from zoo.training.progress import Progress

#: Training images from which the layers begin.
INIT_IMAGES = 100
#: What says that there is nothing to say: the defaults of `zoo.finetune`.
_DEFAULTS = {"stitch_sampling": "uniform", "stitch_lr": None, "stitch_init": True}


def options_for(model: nn.Module, options: Options) -> Options:
    """The settings of a run of this model; of one that is not stitched, without those for stitched ones.

    Raises:
        ValueError: such a setting for another model; one for other models, for a stitched one.
    """
    if isinstance(model, StitchNet):
        if options.lora is not None:
            raise ValueError(
                "lora trains adapters on one path, and a stitched network has many; build it with lora_rank=, "
                "--model-arg lora_rank=, for layers that are low-rank themselves, or take freeze='anchors'"
            )
        return options
    for name, default in _DEFAULTS.items():
        if getattr(options, name) != default:
            raise ValueError(f"{name} is for stitched networks (zoo.stitch), {type(model).__name__} is none")
    return replace(options, stitch_sampling=None, stitch_init=None)


def read_sampling(given: Any) -> str | dict[str, Any]:
    """`stitch_sampling` as it is stored: a mode, or a mapping of `mode` and options.

    Raises:
        ValueError, TypeError: as of `StitchSampler`.
    """
    options = dict(given) if isinstance(given, Mapping) else {"mode": given}
    check_sampling(options)
    return options["mode"] if set(options) == {"mode"} else options


def param_groups(
    model: StitchNet,
    *,
    lr_anchors: float,
    lr_stitch: float,
    weight_decay: float = 0.05,
    layer_decay: float | None = None,
) -> list[dict[str, Any]]:
    """Groups for an optimiser of torch: the anchors' parameters and those of the stitching layers, each with its rate.

    Biases, norms, other vectors, and what the network names in `no_weight_decay()`, are not decayed; frozen parameters
    are left out.

    Args:
        model: a stitched network.
        lr_anchors, lr_stitch: learning rates.
        weight_decay: of the others.
        layer_decay: factor on the rate from each group of layers to the one before, as timm has it (`lr_scale`, which
            timm's schedules heed).
    """
    kept: Any = getattr(model, "no_weight_decay", set)()
    options: dict[str, Any] = {"weight_decay": weight_decay, "no_weight_decay_list": kept}
    groups = (
        param_groups_weight_decay(model, **options)
        if layer_decay is None
        else param_groups_layer_decay(model, layer_decay=layer_decay, **options)
    )
    stitching = {id(p) for p in model.stitch_layers.parameters()}
    found = []
    for group in groups:
        for rate, wanted in ((lr_anchors, False), (lr_stitch, True)):
            chosen = [p for p in group["params"] if (id(p) in stitching) is wanted]
            if chosen:
                found.append({**group, "params": chosen, "lr": rate})
    return found


class Stitching:
    """The paths of a stitched network that a run trains.

    Args:
        model: the network.
        options: of the run.
        accelerator: of the run.
    """

    def __init__(self, model: StitchNet, options: Options, accelerator: Accelerator):
        self.model, self.options, self.accelerator = model, options, accelerator
        model._forget_accuracies()
        sampling = options.stitch_sampling
        self.sampling: dict[str, Any] = {"mode": sampling} if isinstance(sampling, str) else dict(sampling or {})
        self.follow()

    @property
    def groups(self) -> Callable[[nn.Module], list[dict[str, Any]]] | None:
        """What makes groups of parameters for the optimiser; None where all learn at one rate."""
        o = self.options
        if o.stitch_lr is None:
            return None
        rates = {"lr_anchors": o.lr, "lr_stitch": o.stitch_lr}
        decay = {"weight_decay": o.weight_decay, "layer_decay": o.layer_decay}
        return lambda model: param_groups(self.model, **rates, **decay)

    def follow(self) -> None:
        """Draw, from now on, from the paths on which something learns.

        Raises:
            ValueError: there are none.
        """
        ids = learning_ids(self.model)
        if not ids:
            raise ValueError("no path of the stitched network runs a parameter that learns: freeze less")
        self.sampler = StitchSampler(self.model, seed=self.options.seed, ids=ids, **self.sampling)

    def paths(self, step: int, number: int) -> tuple[int, ...]:
        """Of this process, in batch `number` of an update."""
        place = number * self.accelerator.num_processes + self.accelerator.process_index
        return self.sampler.ids(step, place)

    @property
    def dearest(self) -> tuple[int, ...]:
        """The paths of the update that takes most memory."""
        if self.sampler.mode == "sandwich":
            return self.sampler.ids(0)
        costs = {stitch.id: stitch.flops or 0 for stitch in self.model.stitches}
        return (max(self.sampler.stitch_ids, key=lambda number: costs[number]),)


def begin(model: nn.Module, options: Options, images: Callable[[int], Tensor], show: Progress) -> None:
    """Initialise the stitching layers on training images, if they still are as they were drawn and it is wanted.

    Args:
        model: on its device.
        options: of the run.
        images: gives so many training images, prepared as for evaluation, on the model's device.
        show: is told.
    """
    if not isinstance(model, StitchNet) or not options.stitch_init or not model.has_random_layers:
        return
    found = images(INIT_IMAGES)
    model.init_stitches(found, num_samples=len(found))
    # All processes have the same images, but not all devices the same rounding.
    broadcast([p.data for p in model.stitch_layers.parameters()])
    show.note(f"stitching layers: least squares on {len(found)} training images")
