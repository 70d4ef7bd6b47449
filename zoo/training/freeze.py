"""Which parameters learn, and when: freezing, linear probing, gradual unfreezing."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from typing import Any

from timm.models import group_parameters
from torch import nn

from zoo.models.stitching.network import StitchNet
from zoo.naming import did_you_mean
from zoo.weights import adapt

FreezeSpec = str | Iterable[str] | None


def classifier_names(model: nn.Module) -> list[str]:
    """Dotted paths of the classifier's modules (several in distilled and branched models).

    Raises:
        ValueError: the model has no classifier.
    """
    modules = dict(model.named_modules())
    names = [n for n in adapt.classifier_names(model) if n in modules and any(True for _ in modules[n].parameters())]
    get: Any = getattr(model, "get_classifier", None)
    if not names and get is not None:
        found = get()
        leaves = found if isinstance(found, (tuple, list, nn.ModuleList)) else [found]
        heads = [leaf for leaf in leaves if isinstance(leaf, nn.Module) and any(True for _ in leaf.parameters())]
        names = [n for n, m in modules.items() if any(m is head for head in heads)]
    if not names:
        raise ValueError(
            "freeze='backbone' needs a model with a classifier: none is named in pretrained_cfg['classifier'] and "
            "get_classifier() gives none; freeze by parameter names instead, e.g. freeze=['blocks.*']"
        )
    return names


def frozen_names(model: nn.Module, spec: FreezeSpec) -> set[str]:
    """Names of the parameters that `spec` freezes.

    Args:
        model: any model; "blocks:n" needs timm's `group_matcher`.
        spec: None or "none": nothing. "backbone": all but the classifier (a linear probe). "blocks:-4": all but the
            last four groups of the model's `group_matcher` (the head is the last); "blocks:4": the first four.
            "anchors": of a stitched network all but its stitching layers. Else a pattern of parameter names, or
            several: "stem.*".

    Raises:
        ValueError: a pattern that matches nothing, more groups than there are, or nothing left to learn.
    """
    names = [n for n, _ in model.named_parameters()]
    if spec is None or spec == "none":
        return set()
    if spec == "backbone":
        heads = tuple(f"{n}." for n in classifier_names(model))
        frozen = {n for n in names if not n.startswith(heads)}
    elif spec == "anchors" and isinstance(model, StitchNet):
        frozen = {n for n in names if n.startswith("anchors.")}
    elif isinstance(spec, str) and spec.startswith("blocks:"):
        frozen = _groups(model, spec)
    else:
        patterns = [spec] if isinstance(spec, str) else list(spec)
        frozen = set()
        for pattern in patterns:
            hits = fnmatch.filter(names, pattern)
            if not hits:
                words = ["backbone", *(["anchors"] if isinstance(model, StitchNet) else [])]
                raise ValueError(
                    f"freeze pattern {pattern!r} matches no parameter{did_you_mean(pattern, [*names, *words])}"
                )
            frozen.update(hits)
    if len(frozen) == len(names):
        raise ValueError(f"freeze={spec!r} freezes every parameter: nothing would be learned")
    return frozen


def _groups(model: nn.Module, spec: str) -> set[str]:
    try:
        end = int(spec.removeprefix("blocks:"))
    except ValueError:
        raise ValueError(f"freeze={spec!r}: expected a whole number after 'blocks:', e.g. 'blocks:-4'") from None
    if not hasattr(model, "group_matcher"):
        raise ValueError(f"freeze={spec!r} needs a model with group_matcher; freeze by parameter names instead")
    matcher: Any = model.group_matcher
    groups = group_parameters(model, matcher(coarse=False))
    count = len(groups)
    if end == 0 or abs(end) >= count:
        raise ValueError(f"freeze={spec!r}: this model has {count} groups; use ±1 to ±{count - 1}")
    return {name for number in sorted(groups)[:end] for name in groups[number]}


class FreezePlan:
    """What is frozen in each epoch.

    Parameters that the caller had frozen stay frozen throughout.

    Args:
        model: the model.
        freeze: from the start, as in `frozen_names`.
        unfreeze: number of finished epochs -> the `freeze` in force from then on.

    Raises:
        ValueError: bad specs or epochs.
    """

    def __init__(self, model: nn.Module, freeze: FreezeSpec = None, unfreeze: Mapping[int, FreezeSpec] | None = None):
        self.model = model
        self.original = {n: p.requires_grad for n, p in model.named_parameters()}
        if not self.original and hasattr(model, "store"):
            raise ValueError(
                f"{type(model).__name__} has no parameters: a memory learns by storing, model.store(images, labels); "
                "with learnable=True (model_args={'learnable': True}, --model-arg learnable=true) what it has stored "
                "is trained as well"
            )
        if not self.original:
            raise ValueError(f"{type(model).__name__} has no parameters: nothing would be learned")
        if not any(self.original.values()):
            raise ValueError("every parameter of the model has requires_grad=False: nothing would be learned")
        self.phases = {0: frozen_names(model, freeze)}
        for epoch, spec in (unfreeze or {}).items():
            if not isinstance(epoch, int) or isinstance(epoch, bool) or epoch < 1:
                raise ValueError(f"unfreeze: epochs are whole numbers from 1, got {epoch!r}")
            self.phases[epoch] = frozen_names(model, spec)

    def ever_trained(self) -> set[str]:
        """Names of the parameters that learn in some epoch."""
        always = set.intersection(*self.phases.values())
        return {n for n, free in self.original.items() if free and n not in always}

    def apply(self, epoch: int) -> None:
        """Set `requires_grad` for `epoch` and drop the gradients of what is frozen."""
        frozen = self.phases[max(e for e in self.phases if e <= epoch)]
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(self.original[name] and name not in frozen)
            if not parameter.requires_grad:
                parameter.grad = None

    def restore(self) -> None:
        """Give `requires_grad` back as the caller had it."""
        for name, parameter in self.model.named_parameters():
            if name in self.original:  # not so after LoRA's adapters have been taken off
                parameter.requires_grad_(self.original[name])


def train_mode(model: nn.Module) -> None:
    """Training mode, except modules whose parameters are all frozen.

    Those run as in evaluation: batch norm keeps its running statistics, bit for bit, and dropout is off. (timm swaps
    batch norm for another class instead, which changes the state dict.)
    """
    model.train()
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            module.eval()
