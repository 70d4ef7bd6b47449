"""An associative memory of constant size: sums over the patterns in place of the patterns."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from zoo.layers.hopfield.options import check_tensors, positive_int

#: Rounding errors of the sums that are taken for 0.
_ROUNDING = 1e4


class LinearMemory(nn.Module):
    """Approximate retrieval whose cost does not depend on how much is stored.

        retrieve(q) = phi(q) (phi(X)^T V) / (phi(q) sum_i phi(x_i)),   phi(x) = elu(sqrt(beta) x) + 1

    Storing a pattern adds to two sums and removing it subtracts. What is read out is smoother than by softmax: the
    memory is for many similar patterns, not for exact recall. An empty one gives 0.

    Shapes: (*, dim) -> (*, value_dim).

    Args:
        dim: width of states and patterns.
        value_dim: width of the values; dim if None.
        beta: inverse temperature.

    Raises:
        ValueError, TypeError: sizes below 1, a beta of 0 or less.

    Source: Hu et al., "Nonparametric Modern Hopfield Models" (2024, arXiv 2404.03900); Katharopoulos et al.,
    "Transformers are RNNs" (2020, arXiv 2006.16236), for phi.
    """

    associations: Tensor
    mass: Tensor
    count: Tensor

    def __init__(
        self,
        dim: int,
        *,
        value_dim: int | None = None,
        beta: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.dim = positive_int("dim", dim)
        self.value_dim = self.dim if value_dim is None else positive_int("value_dim", value_dim)
        if not 0 < beta < float("inf"):
            raise ValueError(f"beta must be a finite number greater than 0, got {beta}")
        self.beta = float(beta)
        self.register_buffer("associations", torch.empty(self.dim, self.value_dim, device=device, dtype=dtype))
        self.register_buffer("mass", torch.empty(self.dim, device=device, dtype=dtype))
        self.register_buffer("count", torch.empty((), device=device, dtype=torch.int64))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Forget everything."""
        for buffer in self.buffers():
            nn.init.zeros_(buffer)

    def _phi(self, x: Tensor) -> Tensor:
        return F.elu(self.beta**0.5 * x) + 1

    @torch.no_grad()
    def add(self, patterns: Float[Tensor, "n dim"], values: Float[Tensor, "n value_dim"] | None = None) -> None:
        """Store patterns, with values or as their own.

        Raises:
            ValueError: sizes that do not fit, numbers that are not finite.
        """
        self._change(patterns, values, 1)

    @torch.no_grad()
    def remove(self, patterns: Float[Tensor, "n dim"], values: Float[Tensor, "n value_dim"] | None = None) -> None:
        """Forget patterns, given as they were stored.

        Raises:
            ValueError: as `add`; more patterns than there are, or some that cannot have been stored, as what stays
                would have a negative weight. (Others that were not stored are not noticed: only sums are kept.)
        """
        check_tensors(patterns=patterns)
        if len(patterns) > int(self.count):
            raise ValueError(f"there are {int(self.count)} stored patterns to remove, got {len(patterns)}")
        self._change(patterns, values, -1)

    def _change(self, patterns: Tensor, values: Tensor | None, sign: int) -> None:
        check_tensors(patterns=patterns, values=values)
        values = patterns if values is None else values
        if patterns.dim() != 2 or patterns.shape[1] != self.dim:
            raise ValueError(f"patterns must be (n, {self.dim}), got {tuple(patterns.shape)}")
        if values.shape != (len(patterns), self.value_dim):
            wanted = (len(patterns), self.value_dim)
            raise ValueError(f"values must be {wanted}, one for each pattern, got {tuple(values.shape)}")
        if not bool(patterns.isfinite().all() & values.isfinite().all()):
            raise ValueError("patterns and values must be finite, got NaN or infinity")
        features = self._phi(patterns.to(self.mass))
        mass = self.mass + sign * features.sum(0)
        if bool((mass < -_ROUNDING * torch.finfo(mass.dtype).eps * self.mass.abs()).any()):
            raise ValueError(
                "these patterns were not stored as they are given: their weights are more than all there is"
            )
        self.associations += sign * (features.t() @ values.to(self.mass))
        self.mass.copy_(mass)
        self.count += sign * len(patterns)
        if not int(self.count):  # without what rounding left
            self.reset_parameters()

    def forward(self, state: Float[Tensor, "*states dim"]) -> Float[Tensor, "*states value_dim"]:
        if state.shape[-1] != self.dim:
            raise ValueError(f"states must be {self.dim} wide, got {tuple(state.shape)}")
        features = self._phi(state)
        tiny = torch.finfo(state.dtype).tiny
        return (features @ self.associations) / (features @ self.mass).clamp_min(tiny).unsqueeze(-1)

    def extra_repr(self) -> str:
        return f"{self.dim}, value_dim={self.value_dim}, beta={self.beta:g}"
