"""The loop of networks that look twice: four stages, each with its loss, its schedule, and what learns in it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from zoo.models.data_config import data_config
from zoo.models.varifocal.network import VarifocalNet
from zoo.training.data.image_set import ImageSet
from zoo.training.data.loader import Batch
from zoo.training.forward import all_logits
from zoo.training.freeze import FreezePlan
from zoo.training.loop import Loop
from zoo.training.phases import PhasedSchedule
from zoo.training.varifocal.calibrate import calibrate
from zoo.training.varifocal.loss import STAGES, VarifocalLoss
from zoo.training.varifocal.measure import Columns, measure_scales
from zoo.training.varifocal.options import VarifocalOptions
from zoo.training.varifocal.stages import Kept, Stages, keep


class VarifocalLoop(Loop):
    """One run of a network that looks twice.

    Its trunk and classifiers at the global scale learn at first; then the localisation, from rough targets of the box;
    then the local scale with the localisation, through the crop; at last the decision on both. What does not learn is
    in evaluation mode; where images are not varied, it is asked once a stage (`keep`).
    """

    options: VarifocalOptions
    model: VarifocalNet

    @property
    def task(self) -> str:
        return "types and polarities" if self.model.num_polarities else "single-label"

    @property
    def about(self) -> str:
        epochs = ", ".join(f"{count} {stage}" for count, stage in zip(self.options.stage_epochs, STAGES, strict=True))
        return f"{super().about}; epochs: {epochs}"

    @property
    def stage(self) -> str:
        """The stage of this epoch."""
        return self.stage_of(self.at.epoch)

    def stage_of(self, epoch: int) -> str:
        """The stage of an epoch; of those after the end, the last."""
        for stage, count in zip(STAGES, self.options.stage_epochs, strict=True):
            if epoch < count:
                return stage
            epoch -= count
        return STAGES[-1]

    def set_loss(self) -> None:
        o = self.options
        self.loss, self.own_loss, self.mixup = nn.Identity(), None, None
        self.losses = {
            stage: VarifocalLoss(
                stage, ranking=o.ranking if stage == "local" else 0.0, label_smoothing=o.label_smoothing
            )
            for stage in STAGES
        }
        self.kept: tuple[str, Kept | None] = ("", None)

    def freeze_plan(self) -> FreezePlan:
        plan = FreezePlan(self.model)
        wanted, begin = plan.original, 0
        for stage, count in zip(STAGES, self.options.stage_epochs, strict=True):
            self.model.freeze_stage(stage)
            plan.phases[begin] = {name for name, p in self.model.named_parameters() if not p.requires_grad}
            begin += count
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(wanted[name])
        return plan

    def learner(self) -> nn.Module:
        config = data_config(self.model)
        mean, std = (torch.tensor(config[key]).view(-1, 1, 1) for key in ("mean", "std"))
        return Stages(self.model, self.options, (mean, std))

    def build_schedule(self, optimiser: torch.optim.Optimizer) -> Any:
        epochs = self.options.stage_epochs
        return PhasedSchedule(optimiser, self.options, [count * self.updates for count in epochs], epochs)

    def begin_epoch(self) -> None:
        stage = self.stage
        self.model.freeze_stage(stage)
        super().begin_epoch()
        if self.kept[0] != stage:
            self.kept = (stage, self._keep(stage))

    def _keep(self, stage: str) -> Kept | None:
        """What frozen parts say of the training images, if these are the same every time."""
        asked = stage in ("localize", "fusion") or (stage == "local" and not self.options.ranking)
        if self.options.aug != "none" or not asked:
            return None
        assert isinstance(self.alone, Stages)
        size = self.options.batch_size
        kept = keep(self.alone, stage, self.train, self.train_pipeline, self.accelerator, size)
        if kept is None:
            self.progress.note(f"{stage}: what is frozen says too much to be kept, and is asked anew every time")
        return kept

    def batch_loss(self, batch: Batch, net: nn.Module, paths: tuple[int, ...] | None = None) -> Tensor:
        stage, (of, kept) = self.stage, self.kept
        images, targets = batch.images, batch.targets
        assert isinstance(images, Tensor)
        there = kept.of(batch.indices, images.device) if kept is not None and of == stage else ()
        output, rough = net(images, stage, there)
        types, polarities = targets.unbind(1) if targets.ndim == 2 else (targets, None)
        return self.losses[stage](output, types, polarities, rough)

    def measure(self, model: nn.Module, split: ImageSet) -> dict[str, Any]:
        assert isinstance(model, VarifocalNet)
        o, stage = self.options, self.stage
        rough = Stages(model, o, self.alone.pixels) if stage == "localize" else None  # type: ignore[arg-type]
        return measure_scales(
            model,
            split,
            self.eval_pipeline,
            self.accelerator,
            stage=stage,
            rough=rough,
            batch_size=o.batch_size,
            workers=o.workers,
        )

    def settle(self) -> None:
        """Fit the temperature on the validation split; without one it stays 1."""
        if self.splits.val is None:
            self.progress.note(
                "temperature 1: no validation split to fit it on; zoo.karyotype.fit_temperature does it by hand"
            )
            return
        self.model.uncalibrate()
        o, columns = self.options, Columns(self.model, STAGES[-1])
        answers, targets = all_logits(
            columns,
            self.splits.val,
            self.eval_pipeline,
            self.accelerator,
            batch_size=o.batch_size,
            workers=o.workers,
            width=columns.width,
        )
        self.progress.note(calibrate(self.model, self.splits.val, answers, targets))

    def facts(self) -> dict[str, Any]:
        return {"stage": self.stage}

    def score(self, metrics: dict[str, Any]) -> list[float]:
        """The stage, then the monitored metric so that more is better: what a stage gives replaces the one before."""
        number = float(STAGES.index(self.stage))
        if "region_loss" in metrics:
            return [number, -metrics["region_loss"], -metrics["loss"]]
        return [number, *super().score(metrics)]

    def all_learn(self, stage: str) -> None:
        """Leave the model in no stage; what required gradients before the run does again.

        Args:
            stage: how far the model was run before.
        """
        self.model.freeze_stage("joint")
        self.model.stage = stage
        self.freeze.restore()
