"""Probabilities, and whole cases: images of one patient that are typed together."""

from collections.abc import Collection
from typing import Any

import torch
from jaxtyping import Float
from timm.models._input import update_model_args
from torch import Tensor, nn

from zoo.layers.modes import evaluating
from zoo.models.placed import example_of
from zoo.models.varifocal.case_checks import case_images, check_case_images, type_places
from zoo.models.varifocal.checks import check_temperature
from zoo.models.varifocal.output import VarifocalOutput


class CaseModel(nn.Module):
    """What a network of types and polarities says in probabilities, of one image and of a case."""

    in_chans: int
    _temperature: tuple[float, float]

    @property
    def temperature(self) -> tuple[float, float]:
        """What the logits of types and polarities are divided by for probabilities; saved with the network."""
        return self._temperature

    @temperature.setter
    def temperature(self, value: Any) -> None:
        self._temperature = check_temperature(value)
        if getattr(self, "_model_args", None):
            update_model_args(self, temperature=list(self._temperature))

    def uncalibrate(self, changed: Collection[str] | None = None) -> None:
        """Forget the temperature: it was that of classifiers which are no longer there.

        Args:
            changed: names of the parameters that are others now: those that are not of classifiers leave all as it
                was, those of polarities leave types.
        """
        heads = tuple(f"{path}." for path in self.classifier_names())
        found = heads if changed is None else [name for name in changed if name.startswith(heads)]
        if found:
            types = any("polarity" not in name for name in found)
            self.temperature = (1.0 if types else self._temperature[0], 1.0)

    def classifier_names(self) -> tuple[str, ...]:
        """Paths of all that has a row a class."""
        raise NotImplementedError

    def log_probabilities(
        self, output: VarifocalOutput
    ) -> tuple[Float[Tensor, "batch types"] | None, Float[Tensor, "batch polarities"] | None]:
        """log softmax(logits / temperature) of both tasks, by the last stage that was run, in float32 at least."""
        found = zip((output.logits, output.polarity_logits), self._temperature, strict=True)
        return tuple(None if logits is None else _log_softmax(logits, T) for logits, T in found)  # type: ignore

    def predict_case(
        self,
        images: Any,
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
            images: of one case, of any number, prepared as those that the network learnt from (`zoo.data_config`): a
                tensor (n, chans, height, width), an array, or a list of such images.
            sex: "auto", "XX" or "XY".
            batch_size: images at a time.
            options: of `zoo.karyotype.dispatch`: `gain`, `loss`, `max_extra`, `strict`, `method`, `template`.

        Returns:
            `zoo.karyotype.Karyotype`: types, sex, karyotype, cost, copies, overruled.

        Raises:
            ValueError: a network whose classes are not the types of the template, options out of range, or what is no
                case: no images, images without a chromosome, of another canvas than the network's, of values far
                outside those that prepared images have, or on a white background.
            TypeError: no images, or whole numbers.
        """
        from zoo.karyotype import dispatch
        from zoo.karyotype.checks import check_sexes
        from zoo.karyotype.template import as_template

        template = as_template(options.get("template"))
        check_sexes(sex, template)
        places = type_places(self, template)
        return dispatch(self.case_log_probabilities(images, batch_size=batch_size)[:, places], sex=sex, **options)

    @torch.inference_mode()
    def case_log_probabilities(self, images: Any, *, batch_size: int = 64) -> Float[Tensor, "batch types"]:
        """Logarithms of the probabilities of types, on the CPU in float64, in evaluation mode.

        Args:
            images: as of `predict_case`, on any device.
            batch_size: images at a time.

        Raises:
            ValueError: a network without types, or what is no case, as there.
            TypeError: as there.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        images = case_images(images)
        size = (getattr(self, "_traits", None) or {}).get("img_size")
        check_case_images(images, self.in_chans, getattr(self, "pretrained_cfg", None) or {}, size)
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
