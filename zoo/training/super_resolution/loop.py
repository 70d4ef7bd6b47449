"""The loop of models that enlarge images: random patches, one phase or two, whole photographs to measure."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.layers.pixel_adaptive import make_coords
from zoo.training.data.image_set import ImageSet
from zoo.training.data.loader import Batch
from zoo.training.freeze import FreezePlan
from zoo.training.loop import Loop
from zoo.training.metrics import higher_is_better
from zoo.training.optimise import build_optimiser
from zoo.training.phases import PhasedSchedule
from zoo.training.super_resolution.measure import measure_photos
from zoo.training.super_resolution.options import BETAS, RestorationOptions, epochs_of
from zoo.training.super_resolution.patches import Patches
from zoo.training.super_resolution.photos import Photos
from zoo.training.super_resolution.task import SUPER_RESOLUTION


class Queries(nn.Module):
    """A model as it is called in training with queries, so that Accelerate may wrap it."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, coord: Tensor, cell: Tensor) -> Any:
        return self.model.train_queries(x, coord, cell)  # pyright: ignore - not of nn.Module


class RestorationLoop(Loop):
    """One run of a model that enlarges images.

    A model with `train_queries` learns pixels drawn from each patch, in two phases: at first the backbone and the
    heaviest network, then, these frozen and in evaluation mode, the others and the classifier. The learning rate
    follows its schedule in each. Other models learn whole patches by the absolute difference.
    """

    options: RestorationOptions
    train: Patches

    @property
    def task(self) -> str:
        return SUPER_RESOLUTION

    @property
    def about(self) -> str:
        o = self.options
        return f"{len(self.train)} patches of {o.patch_size} x {o.patch_size} an epoch, scale {o.upscale}"

    @property
    def samples(self) -> int:
        return len(self.train.photos)

    @property
    def in_phases(self) -> bool:
        """Whether the model learns in two phases."""
        return hasattr(self.model, "train_queries")

    @property
    def phase(self) -> int:
        """The phase of this epoch."""
        first = self.options.phase_epochs[0]
        return int(self.in_phases and self.at.epoch >= first)

    def set_loss(self) -> None:
        self.loss, self.own_loss, self.mixup = F.l1_loss, None, None
        o, updates = self.options, len(super().plan(0))
        if o.lengths is not None:
            phases = epochs_of(o.lengths, updates)
            self.options = replace(o, epochs=sum(phases), phase_epochs=phases)

    def freeze_plan(self) -> FreezePlan:
        if not self.in_phases:
            return FreezePlan(self.model)
        still = {phase: _frozen_in(self.model, phase) for phase in (0, 1)}
        return FreezePlan(self.model, sorted(still[0]), {self.options.phase_epochs[0]: sorted(still[1])})

    def learner(self) -> nn.Module:
        return Queries(self.model) if self.in_phases else self.model

    def build_optimiser(self) -> torch.optim.Optimizer:
        o = self.options
        betas = BETAS if o.opt in ("adam", "adamw") else None
        return build_optimiser(self.model, o.opt, o.lr, weight_decay=o.weight_decay, layer_decay=None, betas=betas)

    def build_schedule(self, optimiser: torch.optim.Optimizer) -> Any:
        return PhasedSchedule(optimiser, self.options, self.lengths(), self.options.phase_epochs)

    def lengths(self) -> list[int]:
        """Updates of each phase."""
        o = self.options
        return list(o.lengths) if o.lengths is not None else [epochs * self.updates for epochs in o.phase_epochs]

    def plan(self, epoch: int) -> list[list[list[int]]]:
        everything, o = super().plan(epoch), self.options
        ends = list(itertools.accumulate(o.phase_epochs))
        if o.lengths is not None and epoch + 1 in ends:
            phase = ends.index(epoch + 1)
            return everything[: o.lengths[phase] - (o.phase_epochs[phase] - 1) * len(everything)]
        return everything

    def to_measure(self) -> dict[str, ImageSet]:
        """The only photograph that there is, if there is no other."""
        found = super().to_measure()
        return found if found or len(self.train.photos) > 1 else {"train": self.train.photos}

    def facts(self) -> dict[str, Any]:
        return {"phase": self.phase} if self.in_phases else {}

    def begin_epoch(self) -> None:
        super().begin_epoch()
        if self.in_phases:
            self.model.phase(self.phase)  # pyright: ignore - not of nn.Module

    def batch_loss(self, batch: Batch, net: nn.Module, paths: tuple[int, ...] | None = None) -> Tensor:
        small, large = batch.images, batch.targets
        assert isinstance(small, Tensor)
        small = small.to(next(self.model.parameters()).dtype)  # of a network of float64
        if not self.in_phases:
            return F.l1_loss(net(small).float(), large)
        coord, cell, truth = draw(large, self.options.queries)
        return self.model.query_loss(net(small, coord, cell), truth)  # pyright: ignore - not of nn.Module

    def measure(self, model: nn.Module, split: ImageSet) -> dict[str, Any]:
        assert isinstance(split, Photos)
        policy: dict[str, Any] = {"policy": ("heavy", "argmax")[self.phase]} if self.in_phases else {}
        return measure_photos(model, split, self.accelerator, **policy)

    def all_learn(self) -> None:
        """Leave the model in no phase; what required gradients before the run does again."""
        if self.in_phases:
            self.model.phase(None)  # pyright: ignore - not of nn.Module
            self.freeze.restore()

    def score(self, metrics: dict[str, Any]) -> list[float]:
        """The phase, then the monitored metric so that more is better: what the second gives replaces the first's."""
        value = metrics[self.options.monitor]
        better = value if higher_is_better(self.options.monitor) else -value
        return [float(self.phase), better, -metrics["loss"]]


def draw(large: Tensor, queries: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Places of so many pixels of each patch, their size, and what is to be there.

    Args:
        large: (B, C, H, W).
        queries: pixels a patch; None for all.

    Returns:
        coord (B, q, 2), cell (B, q, 2) and values (B, q, C).
    """
    batch, _, height, width = large.shape
    coord = make_coords(height, width, large.device)
    values = large.flatten(2).mT
    cell = coord.new_tensor([2 / height, 2 / width])
    if queries is None or queries >= height * width:
        coord = coord.expand(batch, -1, -1)
        return coord, cell.expand_as(coord), values
    chosen = torch.rand(batch, height * width, device=large.device).topk(queries, dim=1, sorted=False).indices
    coord = coord[chosen]
    return coord, cell.expand_as(coord), values.gather(1, chosen.unsqueeze(2).expand(-1, -1, values.shape[2]))


def _frozen_in(model: nn.Module, phase: int) -> set[str]:
    """Names of the parameters that a phase does not train."""
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    model.phase(phase)  # pyright: ignore - not of nn.Module
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(before[name])
    return frozen
