"""A varifocal network as a stage of training calls it, and what its frozen parts said once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from zoo.layers.varifocal.crop import crop_inside
from zoo.layers.varifocal.pool import grid_max
from zoo.layers.varifocal.region import decode_region, foreground_region, pseudo_region
from zoo.models.varifocal.network import VarifocalNet
from zoo.models.varifocal.output import VarifocalOutput
from zoo.training.data.image_set import ImageSet
from zoo.training.data.loader import batches, eval_plan
from zoo.training.varifocal.options import VarifocalOptions

#: Bytes that are kept of what frozen networks said.
MOST_KEPT = 2**30
#: How far the network is run in each stage.
RUN = {"global": "global", "localize": "global", "local": "local", "fusion": "fusion"}


class Said(NamedTuple):
    """What a stage learns from.

    Attributes:
        output: of the network.
        rough: targets of the box, where the stage learns it.
    """

    output: VarifocalOutput
    rough: Tensor | None = None


class Stages(nn.Module):
    """A network as a stage calls it, so that Accelerate may wrap it.

    Args:
        model: the network.
        options: of the run.
        pixels: mean and standard deviation by which its images were normalised.
    """

    def __init__(self, model: VarifocalNet, options: VarifocalOptions, pixels: tuple[Tensor, Tensor]):
        super().__init__()
        self.model, self.options, self.pixels = model, options, pixels

    def forward(self, x: Tensor, stage: str, kept: Sequence[Tensor] = ()) -> Said:
        """The stage's output for images.

        Args:
            x: images.
            stage: of training.
            kept: what `once` gave for these images, in stages after the first; computed if it is not there.
        """
        if stage == "global":
            return Said(self.model(x, "global"))
        if stage == "localize":
            pooled, rough = kept or self.once(x, stage)
            return Said(self._looked(pooled), rough)
        if stage == "local" and kept and not self.options.ranking:
            where = self._looked(kept[0])
            assert where.box is not None
            crop = crop_inside(x, where.box, self.model.local_size)
            return Said(replace(self.model.l_net(crop), region=where.region, box=where.box, crop=crop))
        if stage == "fusion" and kept:
            types, polarities = self.model.fusion(kept[0])
            return Said(VarifocalOutput(type=types, polarity=polarities, features=kept[0]))
        return Said(self.model(x, RUN[stage]))

    def _looked(self, pooled: Tensor) -> VarifocalOutput:
        """Where the localisation looks, by the pooled map."""
        g_net = self.model.g_net
        region = g_net.loc(pooled)
        return VarifocalOutput(region=region, box=decode_region(region, g_net.box_mode, g_net.min_ratio))

    def once(self, x: Tensor, stage: str) -> tuple[Tensor, ...]:
        """What parts that a stage does not train say of images: (B, …) each.

        "localize": the map, pooled as the localisation pools it, and rough targets of the box. "local": the map so
        pooled. "fusion": features of both scales.
        """
        with torch.no_grad():
            if stage == "fusion":
                return (self.model.forward_features(x),)
            features = self.model.g_net.forward_map(x)
            pooled = grid_max(features, self.model.g_net.loc.pool)
            return (pooled, self.rough(x, features)) if stage == "localize" else (pooled,)

    def rough(self, x: Tensor, features: Tensor) -> Tensor:
        """Rough targets of the box, (centre x, centre y, side)."""
        o = self.options
        if o.region == "pseudo":
            return pseudo_region(features, o.half)
        mean, std = (value.to(x.device) for value in self.pixels)
        return foreground_region(x * std + mean, o.threshold, self.model.g_net.min_ratio)


class Kept:
    """What the frozen parts said of every training image, where these are not varied.

    Args:
        said: (N, …) each.
    """

    def __init__(self, said: tuple[Tensor, ...]):
        self.said = said

    def of(self, indices: Sequence[int], device: torch.device) -> tuple[Tensor, ...]:
        """Those of some images."""
        return tuple(part[list(indices)].to(device) for part in self.said)


@torch.no_grad()
def keep(
    stages: Stages,
    stage: str,
    data: ImageSet,
    pipeline: Callable[[Any, str], Any],
    accelerator: Accelerator,
    batch_size: int,
) -> Kept | None:
    """Ask the frozen parts once of all images; None if the answers take too much memory.

    Batches are those of evaluation, so that a run which goes on in the middle of a stage keeps the very same bits.

    Args:
        stages: on its device; in evaluation mode meanwhile.
        stage: of training.
        data: the images, and `pipeline` how they are prepared.
        accelerator: of the run.
        batch_size: images at a time.
    """
    training = {module for module in stages.modules() if module.training}
    stages.eval()
    rows: list[tuple[Tensor, ...]] = []
    try:
        for batch in batches(data, pipeline, eval_plan(len(data), batch_size=batch_size)):
            with accelerator.autocast():
                said = stages.once(batch.to(accelerator.device).images, stage)  # pyright: ignore - of images
            if sum(part[0].numel() * part.element_size() for part in said) * len(data) > MOST_KEPT:
                return None
            rows.append(tuple(part.cpu() for part in said))
    finally:
        for module in training:
            module.training = True
    return Kept(tuple(torch.cat(parts) for parts in zip(*rows, strict=True)))
