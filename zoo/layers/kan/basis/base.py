"""What a KAN layer asks of a basis."""

import math
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.layers.kan.options import check_count, check_range
from zoo.layers.kan.tiles import Tiles


class Basis(nn.Module):
    """K functions of one number, applied to every input.

    A basis of one's own needs `num_bases` and `forward`; it need not be a subclass. `derivative` and `draw_` are
    optional: here the first differentiates `forward`, the second draws a weight that keeps the size of its inputs.

    Shapes: (*, in_features) -> (*, in_features, num_bases).

    Knots and centres stay in float32 or float64 when a model is cast to half precision: a knot moved by rounding is
    another function.
    """

    num_bases: int

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch in_features bases"]:
        raise NotImplementedError(f"{type(self).__name__} has no forward(x) -> (*, in_features, num_bases)")

    def derivative(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch in_features bases"]:
        """The first derivatives of the K functions at x."""
        return torch.func.jvp(self.forward, (x,), (torch.ones_like(x),))[1]

    def tiles(self, dtype: torch.dtype) -> Tiles | None:
        """What makes the functions tile by tile, in float32 or float64; None where only `forward` can.

        Args:
            dtype: of the inputs.
        """
        return None

    def draw_(self, weight: Float[Tensor, "out in_features bases"], scale: float) -> None:
        """Fill the weight of a layer, without gradient.

        Args:
            weight: (out_features, in_features, num_bases).
            scale: size of what is drawn, where the basis has a choice.
        """
        nn.init.normal_(weight, std=1 / math.sqrt(max(weight.shape[1:].numel(), 1)))

    def reset_parameters(self) -> None:
        """Knots or centres to where the constructor had them."""

    def span(self) -> tuple[float, float]:
        """The range of inputs that the functions tell apart best."""
        return -1.0, 1.0

    def _apply(self, fn: Any, recurse: bool = True) -> "Basis":
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, old in before.items():
            new = self._buffers[name]
            if old is not None and new is not None and new.is_floating_point() and new.itemsize < 4:
                self._buffers[name] = old.to(new.device)
        return self


class CentredBasis(Basis):
    """A basis of K bells around centres that lie evenly on a range.

    Args:
        num_centres: K.
        grid_range: first and last centre; one centre lies in the middle.
    """

    state_name: ClassVar[str] = "centers"
    centers: Tensor

    def __init__(
        self,
        num_centres: int,
        grid_range: tuple[float, float],
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.num_bases = check_count("num_centres", num_centres)
        self.grid_range = check_range(grid_range)
        self.register_buffer(self.state_name, torch.empty(num_centres, device=device, dtype=position_dtype(dtype)))
        CentredBasis.reset_parameters(self)

    def reset_parameters(self) -> None:
        if self.centers.is_meta:
            return  # there is no place for values
        low, high = self.grid_range
        if self.num_bases == 1:
            low = high = (low + high) / 2
        with torch.no_grad():
            # On the CPU whatever the default device is, in the type that is stored: the published centres are.
            self.centers.copy_(torch.linspace(low, high, self.num_bases, dtype=self.centers.dtype, device="cpu"))

    def span(self) -> tuple[float, float]:
        """The range that the constructor got."""
        return self.grid_range

    def _offsets(self, x: Tensor) -> Tensor:
        return x.unsqueeze(-1) - self.centers.to(x.dtype)

    def extra_repr(self) -> str:
        return f"num_centres={self.num_bases}, grid_range={self.grid_range}"


def position_dtype(dtype: torch.dtype | None) -> torch.dtype:
    """In which type positions are stored, in a layer of the given type."""
    return torch.float64 if (dtype or torch.get_default_dtype()) == torch.float64 else torch.float32
