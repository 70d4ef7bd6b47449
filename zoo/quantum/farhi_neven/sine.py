"""What a Farhi-Neven circuit with one pair of branches is: a cosine of a linear form of the bits.

Where the readout Pauli is the same in all layers, the sum of `branches` has one term,

    y(z) = constant + amplitude cos(sum_j phases_j z_j + shift),   z_j = +1 for bit 0, -1 for bit 1,

n phases and one amplitude, however many layers and angles there are. For the paper's ZX and XX layers, with the readout
in |0> and Y measured, shift is pi/2 and constant 0: y = -amplitude sin(sum_j phases_j z_j). The amplitude is a product
of n numbers of at most 1, one a data qubit: with random angles it vanishes for wide inputs.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from zoo.quantum.farhi_neven.states import check_bits


class Sine(NamedTuple):
    """constant + amplitude cos(sum_j phases_j z_j + shift).

    Attributes:
        phases: (n,).
        amplitude: a number from 0 to 1 as a tensor without axes.
        shift, constant: what the layers fix, whatever the angles.
    """

    phases: Tensor
    amplitude: Tensor
    shift: float
    constant: float


class SineModel(nn.Module):
    """The classical model of as many numbers: y = constant + amplitude cos(sum_j phases_j z_j + shift).

    It can be everything that the circuit can, and more: its amplitude, held between -1 and 1, is free of the phases.

    Shapes: bits (B, n) of 0 and 1 -> (B,).

    Args:
        n_data: bits.
        shift, constant: see `Sine`; those of ZX and XX layers.

    Raises:
        ValueError, TypeError: in the call, inputs of another width, or that are not 0 and 1.
    """

    def __init__(
        self,
        n_data: int,
        *,
        shift: float = torch.pi / 2,
        constant: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.shift, self.constant = shift, constant
        self.phases = nn.Parameter(torch.empty(n_data, device=device, dtype=dtype))
        self.amplitude = nn.Parameter(torch.empty((), device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Amplitude 1; phases uniform in (-1/n, 1/n)."""
        nn.init.uniform_(self.phases, -1 / len(self.phases), 1 / len(self.phases))
        nn.init.ones_(self.amplitude)

    def forward(self, bits: Shaped[Tensor, "batch n"]) -> Float[Tensor, " batch"]:
        check_bits(bits, len(self.phases))
        z = 1 - 2 * bits.to(self.phases.dtype)
        return self.constant + self.amplitude.clamp(-1, 1) * torch.cos(z @ self.phases + self.shift)
