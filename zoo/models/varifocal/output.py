"""What a varifocal network says of its images."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class VarifocalOutput:
    """Logits of both scales and of both together, and what the network looked at; None where it was not asked for.

    Attributes:
        type: (batch, types), the decision on both scales.
        polarity: (batch, polarities), the same of the second task.
        g_type, g_polarity: of the global scale.
        l_type, l_polarity: of the local scale.
        region: (batch, 3), (u_x, u_y, u_l) of the localisation head.
        box: (batch, 4), (x0, y0, x1, y1) as fractions of the image.
        crop: (batch, chans, height, width) of the box, what the local scale saw.
        features: (batch, dim), pooled features of the scales that were run, one after the other.
    """

    type: Tensor | None = None
    polarity: Tensor | None = None
    g_type: Tensor | None = None
    g_polarity: Tensor | None = None
    l_type: Tensor | None = None
    l_polarity: Tensor | None = None
    region: Tensor | None = None
    box: Tensor | None = None
    crop: Tensor | None = None
    features: Tensor | None = None

    @property
    def logits(self) -> Tensor | None:
        """Types by the last stage that was run: both scales, else the local one, else the global one."""
        return _first(self.type, self.l_type, self.g_type)

    @property
    def polarity_logits(self) -> Tensor | None:
        """The second task by the last stage that was run; None where there is none."""
        return _first(self.polarity, self.l_polarity, self.g_polarity)


def _first(*tensors: Tensor | None) -> Tensor | None:
    return next((tensor for tensor in tensors if tensor is not None), None)


# What `torch.export`, `torch.func` and the like take apart and put together.
torch.export.register_dataclass(VarifocalOutput, serialized_type_name="zoo.models.varifocal.VarifocalOutput")
