"""The losses of a network that looks twice, one for each stage of its training.

    global     CE(g_type) + CE(g_polarity)
    localize   smooth-L1((centre x, centre y, side) of the box, rough targets)
    local      CE(l_type) + CE(l_polarity)  [+ ranking]
    fusion     CE(type) + CE(polarity)
    joint      global + local + fusion

The paper of Varifocal-Net (Qin et al., 2019, arXiv:1810.05943) states two tasks, rough positions at first, and that the
loss of the local scale reaches the box through the crop; equal weights and the rest are our design. The ranking term is
RA-CNN's (Fu et al., CVPR 2017), not of the paper, and off unless it is given a weight.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.layers.varifocal.region import centre_form
from zoo.models.varifocal.output import VarifocalOutput
from zoo.naming import did_you_mean

STAGES = ("global", "localize", "local", "fusion")
#: By how much the finer look is to be surer, as RA-CNN has it.
MARGIN = 0.05
_SCALES = {"global": ("g",), "local": ("l",), "fusion": ("",), "joint": ("g", "l", "")}


class VarifocalLoss(nn.Module):
    """The loss of a stage, of what a `VarifocalNet` gives.

        loss = VarifocalLoss("local")
        loss(net(images), types, polarities)

    Args:
        stage: "global", "localize", "local", "fusion", or "joint", all but "localize" together.
        ranking: weight of the ranking term, which has a place where the local scale learns; 0 for none.
        label_smoothing: of the types and polarities.

    Raises:
        ValueError: an unknown stage; a ranking term where the local scale does not learn; a weight below 0.
    """

    def __init__(self, stage: str = "joint", *, ranking: float = 0.0, label_smoothing: float = 0.0):
        super().__init__()
        known = (*STAGES, "joint")
        if stage not in known:
            raise ValueError(f"stage must be one of {', '.join(known)}, got {stage!r}{did_you_mean(str(stage), known)}")
        if not ranking >= 0:
            raise ValueError(f"ranking must be a weight from 0, got {ranking!r}")
        if ranking and "l" not in _SCALES.get(stage, ()):
            raise ValueError(
                f"ranking={ranking}: it compares the local scale with the global one, not in stage {stage!r}"
            )
        self.stage, self.ranking, self.label_smoothing = stage, ranking, label_smoothing

    def forward(
        self, output: VarifocalOutput, types: Tensor, polarities: Tensor | None = None, rough: Tensor | None = None
    ) -> Tensor:
        """A number.

        Args:
            output: of the network.
            types: (B,) class numbers.
            polarities: (B,) 0 or 1, -1 where it is not known: these say nothing. None of all.
            rough: (B, 3) rough targets of the box, (centre x, centre y, side): `pseudo_region` of the map, or
                `foreground_region` of the image. For "localize", and nothing else.

        Raises:
            ValueError: the output lacks what the stage learns from; rough targets are missing.
        """
        if self.stage == "localize":
            if rough is None:
                raise ValueError("stage 'localize' learns from rough targets of the box: give rough=")
            return F.smooth_l1_loss(centre_form(self._there(output, "box")), rough.to(output.box.dtype))  # type: ignore
        parts = [self._of_scale(output, scale, types, polarities) for scale in _SCALES[self.stage]]
        if self.ranking:
            scales = [self._there(output, "g_type"), self._there(output, "l_type")]
            parts.append(self.ranking * ranking_loss(scales, types))
        return torch.stack(parts).sum()

    def _of_scale(self, output: VarifocalOutput, scale: str, types: Tensor, polarities: Tensor | None) -> Tensor:
        names = [f"{scale}_{task}" if scale else task for task in ("type", "polarity")]
        smooth = self.label_smoothing
        found = F.cross_entropy(self._there(output, names[0]).float(), types, label_smoothing=smooth)
        logits = getattr(output, names[1])
        if polarities is None or logits is None:
            return found
        # The mean over those that are known; 0 where none is.
        total = F.cross_entropy(logits.float(), polarities, ignore_index=-1, reduction="sum", label_smoothing=smooth)
        return found + total / (polarities >= 0).sum().clamp(min=1)

    def _there(self, output: VarifocalOutput, name: str) -> Any:
        value = getattr(output, name)
        if value is None:
            raise ValueError(f"stage {self.stage!r} learns from {name!r}, and the output has none: run the net further")
        return value

    def extra_repr(self) -> str:
        return f"stage={self.stage!r}, ranking={self.ranking:g}"


def ranking_loss(
    scales: Sequence[Tensor], target: Tensor, *, margin: float = MARGIN, reduction: str = "mean"
) -> Tensor:
    """sum over neighbouring scales of max(0, p[t] - p'[t] + margin): the finer look is to be surer of the truth.

    p and p' are probabilities of the coarser and the finer scale (one port of RA-CNN takes raw logits, which have no
    common measure).

    Args:
        scales: (B, K) logits, the coarsest first.
        target: (B,) class numbers.
        margin: by how much.
        reduction: over the batch: "mean", or "sum", as RA-CNN has it.

    Raises:
        ValueError: fewer than two scales, another reduction.
    """
    if len(scales) < 2:
        raise ValueError(f"a ranking is of two scales or more, got {len(scales)}")
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction must be 'mean' or 'sum', got {reduction!r}")
    sure = [logits.float().softmax(1).gather(1, target[:, None])[:, 0] for logits in scales]
    loss = torch.stack([F.relu(p - q + margin) for p, q in itertools.pairwise(sure)]).sum(0)
    return loss.mean() if reduction == "mean" else loss.sum()
