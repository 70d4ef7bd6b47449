"""What the answers of a network that looks twice are worth: types, polarities, scales, and whole cases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from zoo.karyotype import HUMAN, case_metrics, dispatch_cases
from zoo.layers.varifocal.region import centre_form
from zoo.models.varifocal.network import VarifocalNet
from zoo.models.varifocal.output import VarifocalOutput
from zoo.training.data.chromosomes import ChromosomeSet
from zoo.training.data.image_set import ImageSet
from zoo.training.forward import all_logits
from zoo.training.metrics import classification_metrics
from zoo.training.varifocal.stages import RUN, Stages
from zoo.training.varifocal.task import second_task

#: What each stage's decision is called in an output, and those of the scales beneath it.
_DECISIONS = {"global": ("g",), "localize": ("g",), "local": ("l", "g"), "fusion": ("", "l", "g")}
_NAMES = {"g": "global", "l": "local"}


class Columns(nn.Module):
    """All that a network decides, in columns: types and polarities of the last scale, then of those beneath it.

    The logits of the last scale are divided by the network's temperature, as its probabilities have them.

    Args:
        model: the network.
        stage: of training, that tells how far it is run.
        rough: makes rough targets of the box; then one more column, of the distance from these.
    """

    def __init__(self, model: VarifocalNet, stage: str, rough: Stages | None = None):
        super().__init__()
        self.model, self.stage, self.rough = model, stage, rough

    @property
    def width(self) -> int:
        """How many there are."""
        tasks = self.model.num_classes + self.model.num_polarities
        return tasks * len(_DECISIONS[self.stage]) + (self.rough is not None)

    def besides(self, data: ImageSet, answers: Tensor, targets: Tensor) -> dict[str, float]:
        """`measure_besides` of what this gave."""
        return measure_besides(self.model, data, answers, targets, self.stage)

    def forward(self, x: Tensor) -> Tensor:
        output = self.model(x, RUN[self.stage])
        last, *beneath = _DECISIONS[self.stage]
        found = _logits(output, last, self.model.temperature)
        found += [logits for scale in beneath for logits in _logits(output, scale)]
        if self.rough is not None:
            targets = self.rough.rough(x, self.model.g_net.forward_map(x))
            loss = torch.nn.functional.smooth_l1_loss(centre_form(output.box), targets.float(), reduction="none")
            found.append(loss.mean(1, keepdim=True))
        return torch.cat(found, 1)


def _logits(output: VarifocalOutput, scale: str, temperature: tuple[float, float] = (1.0, 1.0)) -> list[Tensor]:
    names = [f"{scale}_{task}" if scale else task for task in ("type", "polarity")]
    found = zip((getattr(output, name) for name in names), temperature, strict=True)
    return [logits.float() / value for logits, value in found if logits is not None]


def measure_scales(
    model: VarifocalNet,
    data: ImageSet,
    pipeline: Callable[[Any, str], Any],
    accelerator: Accelerator,
    *,
    stage: str = "fusion",
    rough: Stages | None = None,
    batch_size: int,
    workers: int = 0,
    tick: Callable[[int], None] = lambda images: None,
) -> dict[str, Any]:
    """The metrics of a network on a set, by the decision of a stage.

    Args:
        model: on the accelerator's device.
        data: images with types; chromosomes with polarities and cases are measured by these, too.
        pipeline: how they are prepared.
        accelerator: of the run.
        stage: of training.
        rough: makes rough targets of the box, to measure the distance from them.
        batch_size: images at a time and process.
        workers: processes that read images.
        tick: called with the number of images done.

    Returns:
        As `classification_metrics`; with polarities `polarity_accuracy` and `polarity_loss`; of the scales beneath
        `global_accuracy` and `local_accuracy`; with `rough` `region_loss`; with cases those of `measure_cases`.
    """
    columns = Columns(model, stage, rough)
    answers, targets = all_logits(
        columns, data, pipeline, accelerator, batch_size=batch_size, workers=workers, tick=tick, width=columns.width
    )
    types = classification_metrics(answers[:, : model.num_classes], targets)
    return types | measure_besides(model, data, answers, targets, stage)


def measure_besides(
    model: VarifocalNet, data: ImageSet, answers: Tensor, targets: Tensor, stage: str
) -> dict[str, float]:
    """What the columns of `Columns` say besides the types; see `measure_scales`."""
    types, polarities = model.num_classes, model.num_polarities
    parts = answers[:, : (types + polarities) * len(_DECISIONS[stage])].split(types + polarities, 1)
    found: dict[str, float] = {}
    if second_task(model, data):
        found |= measure_polarity(parts[0][:, types:], data.polarity)  # pyright: ignore - of chromosomes
    for scale, part in zip(_DECISIONS[stage][1:], parts[1:], strict=True):
        found[f"{_NAMES[scale]}_accuracy"] = float((part[:, :types].argmax(1) == targets).double().mean())
    if answers.shape[1] > (types + polarities) * len(parts):
        found["region_loss"] = float(answers[:, -1].double().mean())
    return found | measure_cases(parts[0][:, :types], data)


def measure_polarity(logits: Tensor, polarity: np.ndarray) -> dict[str, float]:
    """Accuracy and loss of the polarities that are known.

    Args:
        logits: (N, 2).
        polarity: (N,), -1 where it is not known.
    """
    truth = torch.from_numpy(polarity)
    known = truth >= 0
    logits, truth = logits[known].double(), truth[known]
    return {
        "polarity_accuracy": float((logits.argmax(1) == truth).double().mean()),
        "polarity_loss": float(torch.nn.functional.cross_entropy(logits, truth)),
    }


def measure_cases(logits: Tensor, data: ImageSet) -> dict[str, float]:
    """Accuracy by case, as the likeliest types are and after dispatch; nothing where there are no cases of karyotypes.

    Args:
        logits: (N, 24) of types, calibrated.
        data: the chromosomes.

    Returns:
        `case_accuracy`, the mean over cases of the part that is right, and `complete_cases`, the part of the cases that
        are right as a whole; with `dispatch_` before them after dispatch (`zoo.karyotype.dispatch`), also
        `dispatch_accuracy`, of all chromosomes.
    """
    numbers = data.case_numbers if isinstance(data, ChromosomeSet) else None
    if numbers is None or tuple(data.classes) != HUMAN.names:
        return {}
    plain = case_metrics(logits.argmax(1).numpy(), data.labels, numbers)
    try:
        karyotypes = dispatch_cases(logits.double().log_softmax(1).numpy(), case_ids=numbers)
    except ValueError:  # more chromosomes in a case than a karyotype has room for
        return {"case_accuracy": plain.accuracy_per_case, "complete_cases": plain.complete_case_rate}
    better = case_metrics(karyotypes, data.labels, numbers)
    return {
        "case_accuracy": plain.accuracy_per_case,
        "complete_cases": plain.complete_case_rate,
        "dispatch_accuracy": better.accuracy,
        "dispatch_case_accuracy": better.accuracy_per_case,
        "dispatch_complete_cases": better.complete_case_rate,
    }
