"""The loop: epochs of updates, each epoch measured, everything resumable at any update."""

from __future__ import annotations

import copy
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from zoo.errors import DiskFullError, TrainingError
from zoo.models.class_scores import own_loss
from zoo.models.stitching.network import StitchNet
from zoo.training import diagnose
from zoo.training.batch_fit import fit_batch
from zoo.training.checkpoint import versions
from zoo.training.data.image_set import ImageSet, Splits
from zoo.training.data.loader import Batch, batches, epoch_plan
from zoo.training.distillation import Teacher
from zoo.training.forward import measure
from zoo.training.freeze import FreezePlan, train_mode
from zoo.training.lora import Adapters
from zoo.training.loss import build_loss, build_mixup
from zoo.training.metrics import flat, higher_is_better
from zoo.training.optimise import build_optimiser, build_schedule
from zoo.training.options import Options
from zoo.training.persistence import Position, save_run
from zoo.training.progress import Progress, Stopwatch
from zoo.training.randomness import kept_random_state
from zoo.training.result import Callback, Result
from zoo.training.run_folder import save_best, write_history
from zoo.training.signals import StopRequest
from zoo.training.stitching import Stitching
from zoo.training.tracking import Tracking
from zoo.training.update import batch_loss, update

_SAVE_SECONDS = 600


class Loop:
    """One run.

    Args:
        model: trained in place.
        splits: with `train`, perhaps `val`.
        pipelines: of training and of evaluation.
        options: the settings.
        folder: of the run.
        accelerator: of the run.
        progress: what is shown.
        adapters: those that were put into the model, with `lora`.
        teacher: whose answers are learned from, too.
    """

    def __init__(
        self,
        model: nn.Module,
        splits: Splits,
        pipelines: tuple[Callable[[Any, str], Any], Callable[[Any, str], Any]],
        options: Options,
        folder: Path,
        accelerator: Accelerator,
        progress: Progress,
        adapters: Adapters | None = None,
        teacher: Teacher | None = None,
    ):
        self.model, self.splits, self.options, self.folder = model, splits, options, folder
        self.train_pipeline, self.eval_pipeline = pipelines
        self.accelerator, self.progress, self.adapters = accelerator, progress, adapters
        self.teacher = teacher
        self.train: ImageSet = splits.present()["train"]
        self.at = Position()
        o = options
        self.set_loss()
        self.freeze = self.freeze_plan()
        trained = self.freeze.ever_trained()
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in trained)
        self.stitching = Stitching(model, o, accelerator) if isinstance(model, StitchNet) else None
        optimiser = self.build_optimiser()
        # Copied before Accelerate wraps the model's forward.
        self.ema = ModelEmaV3(model, decay=o.ema, use_warmup=True) if o.ema else None
        self.alone = self.learner()
        self.net, self.optimiser = accelerator.prepare(self.alone, optimiser)
        for beside in (self.ema, None if teacher is None else teacher.model):
            if beside is not None:
                beside.to(accelerator.device)
        if "batch_size" in o.derived:
            self.options = o = fit_batch(self)
        self.updates = len(self.plan(0))
        self.schedule = self.build_schedule(optimiser)
        self.norm: float | None = None
        self.callbacks: tuple[Callback, ...] = ()
        self.identity, self.tracking = secrets.token_hex(4), Tracking([], accelerator, folder, "", {}, progress)
        self.since_save = Stopwatch()

    # --- what a run of another task does in its own way -------------------------------------------------------------

    #: What the config.json of best/ calls the task.
    @property
    def task(self) -> str:
        return "multi-label" if self.train.multi_label else "single-label"

    @property
    def about(self) -> str:
        """What the headline says of the task."""
        return f"{len(self.train.classes)} classes"

    @property
    def samples(self) -> int:
        """How many images or bags there are to learn from."""
        return len(self.train)

    def set_loss(self) -> None:
        """The loss, the model's own if it has one, and the mixing of images."""
        o, k = self.options, len(self.train.classes)
        self.loss = build_loss(
            multi_label=self.train.multi_label, class_weights=o.class_weights, label_smoothing=o.label_smoothing
        )
        self.own_loss = own_loss(self.model)
        if self.own_loss is not None and (o.mixup or o.cutmix or o.class_weights or o.label_smoothing):
            self.progress.note(
                "mixed or smooth labels, weights of classes: cross-entropy in place of the model's own loss"
            )
            self.own_loss = None
        self.mixup = build_mixup(o.mixup, o.cutmix, k, multi_label=self.train.multi_label)

    def freeze_plan(self) -> FreezePlan:
        """What learns in which epoch."""
        return FreezePlan(self.model, self.options.freeze, self.options.unfreeze)

    def learner(self) -> nn.Module:
        """What is called in training."""
        return self.model

    def build_optimiser(self) -> torch.optim.Optimizer:
        """The optimiser of what learns."""
        o, groups = self.options, None if self.stitching is None else self.stitching.groups
        return build_optimiser(
            self.model, o.opt, o.lr, weight_decay=o.weight_decay, layer_decay=o.layer_decay, groups=groups
        )

    def build_schedule(self, optimiser: torch.optim.Optimizer) -> Any:
        """What sets the learning rate, by `step_update(update)`."""
        o = self.options
        return build_schedule(
            optimiser,
            o.sched,
            lr=o.lr,
            min_lr=o.min_lr,
            epochs=o.epochs,
            warmup=o.warmup_epochs,
            updates=self.updates,
        )

    def batch_loss(self, batch: Batch, net: nn.Module, paths: tuple[int, ...] | None = None) -> Tensor:
        """The loss of one batch."""
        return batch_loss(self, batch, net, paths)

    def measure(self, model: nn.Module, split: ImageSet) -> dict[str, Any]:
        """The metrics of a model on a split."""
        o = self.options
        return measure(model, split, self.eval_pipeline, self.accelerator, batch_size=o.batch_size, workers=o.workers)

    def settle(self) -> None:
        """What is found out about the best of the run, before it is measured for the last time."""

    def to_measure(self) -> dict[str, ImageSet]:
        """What the best of the run is measured on, by the names of the splits."""
        return {name: split for name, split in self.splits.present().items() if name != "train"}

    def begin_epoch(self) -> None:
        """What changes from epoch to epoch."""
        self.freeze.apply(self.at.epoch)
        if self.stitching is not None:
            self.stitching.follow()

    def facts(self) -> dict[str, Any]:
        """What a row of the history says of its epoch besides."""
        return {}

    # --- what all runs do -------------------------------------------------------------------------------------------

    def plan(self, epoch: int) -> list[list[list[int]]]:
        """The updates of an epoch, each a list of batches of indices."""
        return epoch_plan(
            len(self.train),
            batch_size=self.options.batch_size,
            accum=self.options.accum,
            seed=self.options.seed,
            epoch=epoch,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
            multiple=2 if self.mixup else 1,
        )

    def run(self, stop: StopRequest) -> None:
        """Train until the epochs are over, early stopping ends the run, or a signal asks to leave."""
        at, o = self.at, self.options
        with diagnose.explained_memory(o.batch_size, o.accum, self.accelerator.device):
            while not at.finished:
                self.begin_epoch()
                self.train_epoch(stop)
                metrics = self.finish_epoch()
                self.save()
                self.call_back(metrics)

    def train_epoch(self, stop: StopRequest) -> None:
        """The updates of this epoch that are still to be done."""
        at, o = self.at, self.options
        todo = self.plan(at.epoch)[at.step_in_epoch :]
        loader = batches(
            self.train,
            self.train_pipeline,
            [indices for step in todo for indices in step],
            seed=o.seed,
            epoch=at.epoch,
            workers=o.workers,
            pin=self.accelerator.device.type == "cuda",
        )
        self.progress.start(at.epoch, len(self.train), at.images)
        train_mode(self.model)
        watch, before = Stopwatch(), at.seconds
        for step in todo:
            images = sum(map(len, step)) * self.accelerator.num_processes
            loss = update(self, self.fetch(loader, step, stop))
            at.step, at.step_in_epoch = at.step + 1, at.step_in_epoch + 1
            if loss is not None:
                at.images, at.loss_sum = at.images + images, at.loss_sum + loss * images
            at.seconds = before + watch()
            self.progress.step(images, loss, self.lr)
            if self.asked_to_stop(stop):
                self.leave(stop)
            elif at.step % o.save_every == 0 if o.save_every else self.since_save() > _SAVE_SECONDS:
                self.save()

    def paths(self, number: int) -> tuple[int, ...] | None:
        """Of a stitched model those that run in batch `number` of this update; None for other models."""
        return None if self.stitching is None else self.stitching.paths(self.at.step, number)

    def fetch(self, loader: Iterator[Batch], step: list[list[int]], stop: StopRequest) -> list[Batch]:
        """The batches of one update."""
        try:
            return [next(loader) for _ in step]
        except RuntimeError:
            # A signal to the whole process group ends the worker processes before this one has seen to it.
            if stop.signal is None:
                raise
            self.leave(stop)

    def leave(self, stop: StopRequest) -> NoReturn:
        """Write a checkpoint and end as the signal demands."""
        saved = self.save()
        # A launcher ends all processes when one leaves, perhaps while the first still writes.
        self.accelerator.wait_for_everyone()
        self.progress.close()
        lost = "" if saved else ", which could not be saved"
        again = f"run again with out={str(self.folder)!r} (--out) to resume"
        stop.leave(f"stopped after update {self.at.step}{lost}; {again}")

    def finish_epoch(self) -> dict[str, Any] | None:
        """Measure, keep the best of the model and its average, decide whether to go on; the model's metrics."""
        at, o = self.at, self.options
        row: dict[str, Any] = {
            "epoch": at.epoch + 1,
            **self.facts(),
            "train_loss": at.loss_sum / at.images if at.images else None,
            "lr": self.lr,
            "seconds": at.seconds,
            f"{self.train.noun}s_per_second": at.images / max(at.seconds, 1e-9),
        }
        if o.on_nan == "skip":
            row["skipped"] = at.skipped
        better, measured = False, None
        for prefix, model in self.candidates().items():
            metrics: dict[str, Any] | None = None
            score: list[float] = [float(at.epoch + 1)]
            if self.splits.val is not None:
                metrics = self.measure(model, self.splits.val)
                measured = measured or metrics
                row |= {f"{prefix}_{k}": v for k, v in metrics.items() if isinstance(v, float)}
                score = self.score(metrics)
            # A best model that could not be written was none: a later one may take its place.
            if (at.best is None or score > at.best) and self.keep(model, "val", metrics):
                at.best, at.best_epoch, better = score, at.epoch + 1, True
                row["best"] = prefix
        at.history.append(row)
        at.epoch, at.step_in_epoch, at.skipped = at.epoch + 1, 0, 0
        at.images, at.loss_sum, at.seconds = 0, 0.0, 0.0
        patience = o.early_stop is not None and at.epoch - at.best_epoch >= o.early_stop
        at.finished = at.epoch >= o.epochs or patience
        self.write(lambda: write_history(self.folder, at.history))
        self.progress.epoch(row, o.monitor, best=better)
        self.tracking.log(row)
        if patience and at.epoch < o.epochs:
            self.progress.note(f"{o.monitor} has not improved for {o.early_stop} epochs: stopped early")
        return measured

    def call_back(self, measured: dict[str, Any] | None) -> None:
        """Let the caller's functions see what there is so far."""
        if not self.callbacks or not self.accelerator.is_main_process:
            return
        metrics = {} if measured is None else {"split": "val", "dataset": self.splits.name, **flat(measured)}
        with kept_random_state():
            for callback in self.callbacks:
                callback(
                    Result(
                        model=self.model,
                        metrics=metrics,
                        history=copy.deepcopy(self.at.history),
                        folder=self.folder,
                        monitor=self.options.monitor,
                        best_epoch=self.at.best_epoch,
                        val_metrics=measured,
                        classes=self.train.classes,
                    )
                )

    def keep(self, model: nn.Module, split: str, metrics: dict[str, Any] | None, *, verify: bool = False) -> bool:
        """Write best/: the model with what it reached and how it was made; whether it could be written."""

        def job() -> None:
            facts = None if metrics is None else {"split": split, "dataset": self.splits.name, **flat(metrics)}
            if facts is not None and "hub_id" in self.splits.facts:
                facts["dataset_type"] = self.splits.facts["hub_id"]
            data = {"name": self.splits.name, **self.splits.facts, "split": "train", "samples": self.samples}
            how = {"task": self.task, "best_epoch": self.at.best_epoch, **self.options.recipe(), **versions()}
            plain = model if self.adapters is None or model is self.adapters.plain else self.adapters.merged(model)
            note = save_best(plain, self.folder, metrics=facts, train_data=data, training=how, verify=verify)
            if note and verify:
                self.progress.note(note)

        return self.write(job)

    def candidates(self) -> dict[str, nn.Module]:
        """The models to measure: the trained one and, if there is one, its moving average."""
        return {"val": self.model} if self.ema is None else {"val": self.model, "ema": self.ema.module}

    def score(self, metrics: dict[str, Any]) -> list[float]:
        """The monitored metric so that more is better; equal ones are told apart by the loss."""
        value = metrics.get(self.options.monitor)
        if value is None:
            absent = [self.train.classes[k] for k in metrics.get("auroc_absent", [])]
            raise TrainingError(
                f"monitor={self.options.monitor!r} has no value on the validation split"
                + (f": no {self.train.noun} of {', '.join(absent[:5])}" if absent else "")
                + f"; monitor (--monitor) one of {', '.join(k for k, v in metrics.items() if isinstance(v, float))}"
            )
        return [value if higher_is_better(self.options.monitor) else -value, -metrics["loss"]]

    @property
    def lr(self) -> float:
        """The highest learning rate of the last update."""
        return max(group["lr"] for group in self.optimiser.param_groups)

    def asked_to_stop(self, stop: StopRequest) -> bool:
        """Whether any process was asked to stop; all agree at the same update."""
        if self.accelerator.num_processes == 1:
            return stop.signal is not None
        if stop.signal is not None:
            self.accelerator.set_trigger()
        return self.accelerator.check_trigger()

    def save(self) -> bool:
        """Write a checkpoint; whether it could be written."""
        self.since_save = Stopwatch()
        return self.write(lambda: save_run(self))

    def write(self, job: Callable[[], None]) -> bool:
        """Let the first process write; whether there was space, in every process.

        A full disk does not end a run whose next checkpoint may find room; at the end of the run there is no next one.

        Raises:
            DiskFullError: no space, in the last epoch.
        """
        error: DiskFullError | None = None
        if self.accelerator.is_main_process:
            try:
                job()
            except DiskFullError as full:
                error = full
        if self.accelerator.num_processes > 1:
            error = broadcast_object_list([error])[0]
        if error is None:
            return True
        at = self.at
        if at.finished or (at.epoch + 1 == self.options.epochs and at.step_in_epoch == self.updates):
            raise error
        self.progress.note(f"{error}. What was there before stays, and the run goes on until the next save")
        return False
