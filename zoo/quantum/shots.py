"""A finite number of runs: outcomes drawn from probabilities, counted, and expectations estimated from them.

The mean of N runs of a Pauli word P has variance (1 - <P>²) / N. Words that agree on every wire share their runs.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from zoo.quantum.noise.readout import ReadoutError

#: Ways to a gradient that work with a finite number of runs.
WITH_SHOTS = ("parameter_shift", "finite_diff", "spsa")


def check_shots(shots: Any, diff_method: str = "auto") -> None:
    """Refuse what cannot be run.

    Raises:
        ValueError: shots that are no integer of at least 1; shots with a method that differentiates the state.
    """
    if isinstance(shots, bool) or not isinstance(shots, int) or shots < 1:
        raise ValueError(f"shots must be an integer of at least 1, got {shots!r}; None means exact expectations")
    if diff_method not in ("auto", *WITH_SHOTS):
        raise ValueError(
            f"diff_method={diff_method!r} differentiates amplitudes, which shots do not give; "
            f"with shots={shots} use one of {', '.join(map(repr, WITH_SHOTS))}"
        )


def sample_indices(
    chances: Float[Tensor, "*batch outcomes"], shots: int, generator: torch.Generator | None = None
) -> Int[Tensor, "*batch shots"]:
    """Outcomes drawn independently, with replacement.

    By the inverse of the cumulative sum in float64: `torch.multinomial` stops at 2^24 outcomes.

    Args:
        chances: probabilities; scaled to sum 1. Negative ones (of a mitigated readout) count as 0.
        shots: how many a row.
        generator: what draws; one with the same seed draws the same.
    """
    check_shots(shots)
    total = chances.detach().clamp(min=0).double().cumsum(-1)
    # `rand` gives numbers below 1, so an outcome without probability is never drawn, nor one past the end.
    uniform = torch.rand(*chances.shape[:-1], shots, dtype=torch.float64, device=chances.device, generator=generator)
    drawn = torch.searchsorted(total, uniform * total[..., -1:], right=True)
    last = (total < total[..., -1:]).sum(-1, keepdim=True)  # rounding may reach the total
    return torch.minimum(drawn, last)


def index_bits(indices: Int[Tensor, "*shape"], n: int) -> Int[Tensor, "*shape {n}"]:
    """The bits of basis states, wire 0 first."""
    places = torch.arange(n - 1, -1, -1, device=indices.device)
    return (indices[..., None] >> places) & 1


def counts(bits: Int[Tensor, "*batch shots n"]) -> Any:
    """How often each outcome came, by its bits: {"010": 17, ...}; a list of these for each leading dimension."""
    if bits.dim() > 2:
        return [counts(row) for row in bits]
    found = Counter("".join(map(str, row)) for row in bits.tolist())
    return {outcome: found[outcome] for outcome in sorted(found)}


def frequencies(
    chances: Float[Tensor, "*batch outcomes"], shots: int, generator: torch.Generator | None = None
) -> Float[Tensor, "*batch outcomes"]:
    """The share of each outcome in a finite number of runs; has no gradient."""
    drawn = sample_indices(chances, shots, generator)
    found = torch.zeros_like(chances, requires_grad=False)
    return found.scatter_add_(-1, drawn, torch.full_like(drawn, 1 / shots, dtype=chances.dtype))


def as_read(
    chances_in: Callable[[dict[int, str]], Tensor],
    n: int,
    *,
    shots: int | None = None,
    readout: ReadoutError | None = None,
    generator: torch.Generator | None = None,
) -> Callable[[dict[int, str]], Tensor]:
    """What a device reads in place of the exact probabilities; goes into `expectation.measured`.

    Args:
        chances_in: basis (wire -> letter) -> (B, 2^n) probabilities.
        n: the number of wires.
        shots: runs a basis; None for exact probabilities.
        readout: error of the readout.
        generator: what draws.
    """

    def read(basis: dict[int, str]) -> Tensor:
        chances = chances_in(basis)
        if readout is not None:
            chances = readout.apply(chances, range(n))
        return chances if shots is None else frequencies(chances, shots, generator)

    return read
