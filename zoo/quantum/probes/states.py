"""The wires of a state one by one, and how entangled they are."""

from jaxtyping import Complex, Float
from torch import Tensor

from zoo.quantum.expectation import expectations
from zoo.quantum.observables import parse_observables
from zoo.quantum.running.call import check_amplitudes


def bloch_vectors(state: Complex[Tensor, "*batch amplitudes"]) -> Float[Tensor, "*batch wires 3"]:
    """(*, 2**n) complex states -> (*, n, 3): <X>, <Y>, <Z> of every wire alone.

    Of length 1 for a wire that is in a state of its own, 0 for one that is entangled as much as can be.

    Raises:
        ValueError: no state of qubits: another number of amplitudes, one that is not finite, a norm that is not 1.
    """
    n = (state.shape[-1] - 1).bit_length()
    if state.ndim < 1 or 2**n != state.shape[-1] or n < 1:
        raise ValueError(f"a state of n qubits has 2**n amplitudes, got the shape {tuple(state.shape)}")
    check_amplitudes(state)
    words = [o for letter in "xyz" for o in parse_observables(letter, n)]
    found = expectations(state.reshape(-1, 2**n), words, n)
    return found.reshape(*state.shape[:-1], 3, n).transpose(-1, -2)


def meyer_wallach(state: Complex[Tensor, "*batch amplitudes"]) -> Float[Tensor, "*batch"]:
    """(*, 2**n) complex states -> (*): Q = 2 (1 - mean of the purities of the single wires), from 0 to 1.

    Source: Meyer and Wallach (2002, arXiv quant-ph/0108104).
    """
    return 1 - bloch_vectors(state).square().sum(-1).mean(-1)
