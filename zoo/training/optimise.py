"""Optimiser, learning rate and schedule: timm's, with our defaults."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from timm.models import group_parameters
from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch import nn

from zoo.naming import did_you_mean

SCHEDULES = ("cosine", "linear", "step", "constant")
_UNSTORED = "keeps settings that a checkpoint cannot hold"
#: timm's optimisers that the loop cannot drive, and why.
_UNUSABLE = {
    "adahessian": "needs gradients of gradients (create_graph=True)",
    **dict.fromkeys(("adafactorbv", "adafactorbvc", "cadafactorbv", "cadafactorbvc"), _UNSTORED),
}
# Learning rates at 64 images an update: (whole model, classifier only).
_ADAM_LIKE, _SGD_LIKE = (5e-4, 5e-3), (2e-2, 1e-1)


def auto_lr(opt: str, images: int, *, probe: bool) -> float:
    """The learning rate for `lr="auto"`.

    Adam and its kin: 5e-4 at 64 images an update, growing with the root of their number. SGD: 0.02, growing
    linearly. A linear probe takes ten (SGD: five) times as much. A start from scratch often bears more, a large
    pretrained transformer less.

    Args:
        opt: timm's name of the optimiser.
        images: images an update, over all processes and accumulated batches.
        probe: only the classifier learns.
    """
    if "sgd" in opt or "momentum" in opt:
        return _SGD_LIKE[probe] * images / 64
    return _ADAM_LIKE[probe] * math.sqrt(images / 64)


def check_optimiser(opt: str) -> None:
    """Refuse names that timm does not have, and optimisers that the loop cannot drive.

    Raises:
        ValueError: with near names.
    """
    known = [str(name) for name in list_optimizers() if name not in _UNUSABLE]
    if opt in _UNUSABLE:
        raise ValueError(f"the optimiser {opt!r} {_UNUSABLE[opt]}, so a run cannot use it{did_you_mean(opt, known)}")
    if opt not in known:
        raise ValueError(f"unknown optimiser {opt!r}{did_you_mean(opt, known) or '; see timm.optim.list_optimizers()'}")


def build_optimiser(
    model: nn.Module,
    opt: str,
    lr: float,
    *,
    weight_decay: float,
    layer_decay: float | None,
    groups: Callable[[nn.Module], list[dict[str, Any]]] | None = None,
    betas: tuple[float, float] | None = None,
) -> torch.optim.Optimizer:
    """timm's optimiser over the parameters that require gradients.

    Norms, biases and what `model.no_weight_decay()` names are not decayed. With `layer_decay` d, the parameters of the
    k-th group from the end learn at lr * d**k, the head at lr (BEiT; Bao et al., 2021, arXiv:2106.08254). `groups`, if
    given, makes the groups of parameters instead. `betas` are Adam's, where they are not timm's.

    Raises:
        ValueError: a decay outside (0, 1], a model that has only one group, or an optimiser that lacks a GPU or a
            package.
    """
    if layer_decay is not None:
        if not 0 < layer_decay <= 1:
            raise ValueError(f"layer_decay must lie in (0, 1], got {layer_decay}")
        matcher: Any = getattr(model, "group_matcher", None)
        if matcher is None or len(group_parameters(model, matcher(coarse=False))) < 2:
            raise ValueError(
                f"layer_decay={layer_decay} needs a model whose group_matcher gives several groups of layers; "
                f"{type(model).__name__} has one. Leave layer_decay out"
            )
    own: dict[str, Any] = {} if betas is None else {"betas": betas}
    try:
        return create_optimizer_v2(
            model,
            opt=opt,
            lr=lr,
            weight_decay=weight_decay,
            layer_decay=layer_decay,
            param_group_fn=groups,
            **own,
        )
    except (AssertionError, ImportError) as error:
        raise ValueError(f"the optimiser {opt!r} cannot be used here: {error}") from error


def build_schedule(
    optimiser: torch.optim.Optimizer, sched: str, *, lr: float, min_lr: float, epochs: int, warmup: float, updates: int
) -> Scheduler:
    """timm's schedule, stepped every update; `lr_scale` of the parameter groups is honoured.

    Args:
        optimiser: its groups get their rates.
        sched: "cosine", "linear" (to `min_lr`), "step" (a tenth after each third of the epochs) or "constant".
        lr: the peak.
        min_lr: the end.
        epochs: all epochs, warm-up included.
        warmup: epochs (may be a fraction) of linear growth from lr / 100.
        updates: updates an epoch.
    """
    if sched not in SCHEDULES:
        raise ValueError(f"sched must be one of {', '.join(SCHEDULES)}, got {sched!r}")
    total, rising = epochs * updates, round(warmup * updates)
    # All lengths are passed in updates; timm's "epoch" of one update each.
    scheduler, _ = create_scheduler_v2(
        optimiser,
        sched={"linear": "poly"}.get(sched, sched),
        num_epochs=max(total, 2),
        decay_epochs=max(1, round(total / 3)),
        decay_rate=1.0 if sched == "linear" else 0.1,
        min_lr=min_lr,
        warmup_lr=lr / 100,
        warmup_epochs=rising,
        step_on_epochs=False,
        updates_per_epoch=1,
    )
    assert scheduler is not None
    return scheduler
