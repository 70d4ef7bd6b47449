"""Probabilities, and whole cases: images of one patient that are typed together."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from timm.models._input import update_model_args
from torch import Tensor, nn

from zoo.layers.modes import evaluating
from zoo.models.placed import example_of
from zoo.models.varifocal.checks import check_temperature
from zoo.models.varifocal.output import VarifocalOutput


class CaseModel(nn.Module):
    """What a network of types and polarities says in probabilities, of one image and of a case."""

    _temperature: tuple[float, float]

    @property
    def temperature(self) -> tuple[float, float]:
        """What the logits of types and polarities are divided by for probabilities; saved with the network."""
        return self._temperature

    @temperature.setter
    def temperature(self, value: Sequence[float | int]) -> None:
        self._temperature = check_temperature(value)
        if getattr(self, "_model_args", None):
            update_model_args(self, temperature=list(self._temperature))

    def log_probabilities(
        self, output: VarifocalOutput
    ) -> tuple[Float[Tensor, "batch types"] | None, Float[Tensor, "batch polarities"] | None]:
        """log softmax(logits / temperature) of both tasks, by the last stage that was run, in float32 at least."""
        found = zip((output.logits, output.polarity_logits), self._temperature, strict=True)
        return tuple(None if logits is None else _log_softmax(logits, T) for logits, T in found)  # type: ignore

    def predict_case(
        self,
        images: Float[Tensor, "batch chans height width"],
        sex: str = "auto",
        *,
        batch_size: int = 64,
        **options: Any,
    ) -> Any:
        """Types of the chromosomes of one case, by their probabilities and what a karyotype can be.

        The dispatch never forces a template silently: extra and missing chromosomes are found at a price (`gain`,
        `loss`), and those whose best type was overruled are listed. Calibrate the probabilities first (`temperature`).
        Not a medical device.

        Args:
            images: of one case, of any number.
            sex: "auto", "XX" or "XY".
            batch_size: images at a time.
            options: of `zoo.karyotype.dispatch`: `gain`, `loss`, `max_extra`, `strict`, `method`.

        Returns:
            `zoo.karyotype.Karyotype`: types, sex, karyotype, cost, copies, overruled.

        Raises:
            ValueError: no images, a network without 24 types, or options out of range.
        """
        from zoo.karyotype import dispatch

        if not len(images):
            raise ValueError("a case must have at least one image, got none")
        return dispatch(self.case_log_probabilities(images, batch_size=batch_size).numpy(), sex=sex, **options)

    @torch.inference_mode()
    def case_log_probabilities(
        self, images: Float[Tensor, "batch chans height width"], *, batch_size: int = 64
    ) -> Float[Tensor, "batch types"]:
        """Logarithms of the probabilities of types, on the CPU in float64, in evaluation mode.

        Args:
            images: on any device.
            batch_size: images at a time.

        Raises:
            ValueError: a network without types.
        """
        like = example_of(self, (1,))
        rows = []
        with evaluating(self):
            for part in images.split(batch_size):
                types, _ = self.log_probabilities(self(part.to(like.device, like.dtype)))
                if types is None:
                    raise ValueError("the network has no types to tell (num_classes=0)")
                rows.append(types.double().cpu())
        return torch.cat(rows)


def _log_softmax(logits: Tensor, temperature: float) -> Tensor:
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return torch.log_softmax(exact / temperature, -1)
