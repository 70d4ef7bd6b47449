"""A finite number of runs: outcomes drawn from probabilities, counted, and expectations estimated from them.

The mean of N runs of a Pauli word P has variance (1 - <P>²) / N. Words that agree on every wire share their runs.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from zoo.quantum.noise.readout import ReadoutError

#: Numbers that are drawn at once.
AT_ONCE = 2**22
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


@dataclass(frozen=True)
class Reading:
    """How a device reads outcomes.

    Args:
        shots: runs a basis; None for exact probabilities.
        readout: error of the readout.
        generator: what draws.
    """

    shots: int | None = None
    readout: ReadoutError | None = None
    generator: torch.Generator | None = None

    @property
    def exact(self) -> bool:
        """Whether probabilities are read as they are."""
        return self.shots is None and self.readout is None

    def of(self, chances: Tensor, wires: Sequence[int]) -> Tensor:
        """(*, 2^k) probabilities of the outcomes of k wires -> the shares that are read."""
        if self.readout is not None:
            chances = self.readout.apply(chances, wires)
        return chances if self.shots is None else frequencies(chances, self.shots, self.generator)


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
    return torch.cat([*_drawn(chances, shots, shots, generator)], dim=-1)


def _drawn(chances: Tensor, shots: int, at_once: int, generator: torch.Generator | None) -> Iterator[Tensor]:
    """(*, at most `at_once`) outcomes after one another, `shots` in all."""
    total = chances.detach().clamp(min=0).double().cumsum(-1)
    last = (total < total[..., -1:]).sum(-1, keepdim=True)
    for done in range(0, shots, at_once):
        shape = (*chances.shape[:-1], min(at_once, shots - done))
        # `rand` gives numbers below 1, so an outcome without probability is never drawn, nor one past the end.
        uniform = torch.rand(shape, dtype=torch.float64, device=chances.device, generator=generator)
        drawn = torch.searchsorted(total, uniform * total[..., -1:], right=True)
        yield torch.minimum(drawn, last)  # rounding may reach the total


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
    """The share of each outcome in a finite number of runs; has no gradient.

    A large number of runs is drawn some at a time, or, where it is larger than that of the outcomes, as numbers.
    """
    check_shots(shots)
    outcomes = chances.shape[-1]
    at_once = max(1, AT_ONCE // max(1, chances.numel() // outcomes))
    if shots > max(at_once, outcomes):
        found = _numbers(chances.detach().clamp(min=0).double(), shots, generator)
    else:
        found = torch.zeros_like(chances, dtype=torch.float64, requires_grad=False)
        for drawn in _drawn(chances, shots, at_once, generator):
            found.scatter_add_(-1, drawn, torch.ones_like(drawn, dtype=torch.float64))
    return (found / shots).to(chances.dtype)


def _numbers(chances: Tensor, shots: int, generator: torch.Generator | None) -> Tensor:
    """(*, outcomes) how often each comes: the runs fall to halves of the outcomes, then to halves of these."""
    outcomes = chances.shape[-1]
    levels = [nn.functional.pad(chances, (0, (1 << (outcomes - 1).bit_length()) - outcomes))]
    while levels[-1].shape[-1] > 1:
        levels.append(levels[-1].unflatten(-1, (-1, 2)).sum(-1))
    found = torch.full_like(levels.pop(), shots)
    while levels:
        pairs = levels.pop().unflatten(-1, (-1, 2))
        first = (pairs[..., 0] / pairs.sum(-1)).nan_to_num(0)
        some = torch.binomial(found, first, generator)
        found = torch.stack([some, found - some], dim=-1).flatten(-2)
    return found[..., :outcomes]


def as_read(
    chances_in: Callable[[dict[int, str]], Tensor], n: int, reading: Reading
) -> Callable[[dict[int, str]], Tensor]:
    """What a device reads in place of the exact probabilities; goes into `expectation.measured`.

    Args:
        chances_in: basis (wire -> letter) -> (B, 2^n) probabilities.
        n: the number of wires.
        reading: how.
    """
    return lambda basis: reading.of(chances_in(basis), range(n))
