"""Expectations of many observables in a batch of states, without an operator on all wires.

Words of Z are sums of the probabilities with signs: for few amplitudes one product with a matrix of signs, for many the
vector is halved wire by wire. Words with X or Y are words of Z after a change of basis of their wires; words that agree
on every wire share it.
"""

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.eager import must_compose
from zoo.quantum.apply import apply_matrix, split_wires
from zoo.quantum.observables import Hermitian, Observable, Projector, matrix_of
from zoo.quantum.paulis import PauliSum, PauliWord, commuting_groups

#: The largest matrix of signs; above it the probabilities are halved wire by wire.
_MOST_SIGNS = 2**18
_MOST_WIRES = 12
_ROOT = 1 / math.sqrt(2)
#: Measuring the letter is measuring Z after this.
_TO_Z: dict[str, list[list[complex]]] = {
    "x": [[_ROOT, _ROOT], [_ROOT, -_ROOT]],
    "y": [[_ROOT, -1j * _ROOT], [_ROOT, 1j * _ROOT]],
}


def probabilities(state: Tensor) -> Tensor:
    """|amplitude|^2, real."""
    return torch.view_as_real(state).square().sum(-1) if state.is_complex() else state.square()


def expectations(state: Tensor, observables: Sequence[Observable], n: int) -> Tensor:
    """(B, n_observables) real expectations in (B, 2^n) states; differentiable.

    Args:
        state: complex amplitudes, or real ones.
        observables: as `parse_observables` gives them.
        n: the number of wires.
    """
    words = [word for o in observables if isinstance(o, PauliSum) for _, word in o.terms]
    values: dict[PauliWord, Tensor] = {}
    for basis, members in commuting_groups(words):
        chances = probabilities(in_basis(state, basis, n))
        masks = tuple(word.wires for word in members)
        values.update(zip(members, z_words(chances, masks, n).unbind(-1), strict=True))
    columns = []
    for observable in observables:
        if isinstance(observable, PauliSum):
            columns.append(_combined(observable, values, state))
        elif isinstance(observable, Projector):
            columns.append(_outcome(state, observable, n))
        else:
            columns.append(overlap(state, apply_observable(state, observable, n)))
    return torch.stack(columns, dim=-1)


def in_basis(state: Tensor, basis: dict[int, str], n: int) -> Tensor:
    """States in which measuring every wire in Z gives what measuring it in `basis` (wire -> letter) gave before."""
    for wire, letter in basis.items():
        if letter != "z":
            rows = _TO_Z[letter]
            state = state if letter == "x" or state.is_complex() else torch.complex(state, torch.zeros_like(state))
            state = apply_matrix(state, torch.tensor(rows, dtype=state.dtype, device=state.device), (wire,), n)
    return state


def z_words(chances: Tensor, words: tuple[tuple[int, ...], ...], n: int) -> Tensor:
    """(B, n_words) expectations of products of Z.

    Args:
        chances: (B, 2^n) probabilities.
        words: the wires of each product.
        n: the number of wires.
    """
    if n <= _MOST_WIRES and len(words) * 2**n <= _MOST_SIGNS:
        build = _signs if must_compose(chances) else _kept_signs
        return chances @ build(words, n, chances.dtype, chances.device)
    found: dict[tuple[int, ...], Tensor] = {}
    _halve(chances, 0, (), set(words), n, found)
    return torch.stack([found[tuple(sorted(word))] for word in words], dim=-1)


def _signs(words: tuple[tuple[int, ...], ...], n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    index = torch.arange(2**n, device=device)
    columns = [sum((index >> (n - 1 - wire)) & 1 for wire in word) for word in words]
    return 1 - 2 * (torch.stack([torch.as_tensor(column) for column in columns], dim=-1) % 2).to(dtype)


@functools.lru_cache(maxsize=32)
def _kept_signs(words: tuple[tuple[int, ...], ...], n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # what is kept must serve training too
        return _signs(words, n, dtype, device)


def _halve(
    chances: Tensor,
    wire: int,
    taken: tuple[int, ...],
    words: set[tuple[int, ...]],
    n: int,
    found: dict[tuple[int, ...], Tensor],
) -> None:
    """Sum wire by wire: with both signs equal where no word has the wire, with opposite signs where one has."""
    if all(max(word, default=-1) < wire for word in words):
        found[taken] = chances.sum(-1)
        return
    halves = chances.unflatten(-1, (2, -1))
    without = {word for word in words if wire not in word}
    if without:
        _halve(halves.sum(-2), wire + 1, taken, without, n, found)
    if len(without) < len(words):
        _halve(halves[..., 0, :] - halves[..., 1, :], wire + 1, (*taken, wire), words - without, n, found)


def _combined(observable: PauliSum, values: dict[PauliWord, Tensor], state: Tensor) -> Tensor:
    if len(observable.terms) == 1:
        coefficient, word = observable.terms[0]
        if word.letters:
            return values[word] if coefficient == 1 else coefficient * values[word]
    total = probabilities(state).sum(-1) * sum(c for c, word in observable.terms if not word.letters)
    for coefficient, word in observable.terms:
        if word.letters:
            total = total + coefficient * values[word]
    return total


def _outcome(state: Tensor, projector: Projector, n: int) -> Tensor:
    sizes, chosen, _ = split_wires(projector.wires, n)
    view = state.reshape(len(state), *sizes)
    for axis, bit in zip(chosen, projector.bits, strict=True):
        view = view.narrow(axis + 1, int(bit), 1)
    return probabilities(view).flatten(1).sum(-1)


def apply_word(state: Tensor, word: PauliWord, n: int) -> Tensor:
    """(B, 2^n) amplitudes after a Pauli word."""
    sizes, axes, _ = split_wires(word.wires, n)
    view = state.reshape(len(state), *sizes)
    flipped = [axis + 1 for axis, (_, letter) in zip(axes, word.letters, strict=True) if letter != "z"]
    view = view.flip(flipped) if flipped else view
    signs: dict[str, list[complex]] = {"y": [-1j, 1j], "z": [1, -1]}
    for axis, (_, letter) in zip(axes, word.letters, strict=True):
        if letter != "x":
            factor = torch.tensor(signs[letter], dtype=state.dtype, device=state.device)
            view = view * factor.reshape([2 if i == axis else 1 for i in range(len(sizes))])
    return view.reshape(state.shape)


def apply_observable(state: Tensor, observable: Observable, n: int) -> Tensor:
    """(B, 2^n) amplitudes O|state>, complex and not normalised; differentiable in the state."""
    if isinstance(observable, Hermitian):
        return apply_matrix(state, matrix_of(observable, state), observable.wires, n)
    if isinstance(observable, Projector):
        keep = torch.zeros(2 ** len(observable.wires), dtype=state.dtype, device=state.device)
        keep[int(observable.bits, 2)] = 1
        return apply_matrix(state, torch.diag(keep), observable.wires, n)
    return sum((c * apply_word(state, word, n) for c, word in observable.terms), torch.zeros_like(state))


def overlap(bra: Tensor, ket: Tensor) -> Tensor:
    """Re <bra|ket>, row by row."""
    if not bra.is_complex():
        return (bra * ket).sum(-1)
    return (torch.view_as_real(bra) * torch.view_as_real(ket)).sum((-2, -1))


def variances(state: Tensor, observables: Sequence[Observable], n: int) -> Tensor:
    """(B, n_observables) variances <O^2> - <O>^2; differentiable."""
    columns = []
    for observable in observables:
        after = apply_observable(state, observable, n)
        columns.append(probabilities(after).sum(-1) - overlap(state, after).square())
    return torch.stack(columns, dim=-1)


def marginal(chances: Tensor, wires: Sequence[int], n: int) -> Tensor:
    """(B, 2^k) probabilities of the outcomes of k wires, the first the most significant bit."""
    sizes, chosen, rest = split_wires(wires, n)
    view = chances.reshape(len(chances), *sizes)
    view = view.permute(0, *(axis + 1 for axis in chosen), *(axis + 1 for axis in rest))
    return view.reshape(len(chances), 2 ** len(chosen), 2 ** (n - len(chosen))).sum(-1)


def reduced_density(state: Tensor, wires: Sequence[int], n: int) -> Tensor:
    """(B, 2^k, 2^k) density matrices of k wires, the others traced out."""
    sizes, chosen, rest = split_wires(wires, n)
    view = state.reshape(len(state), *sizes)
    view = view.permute(0, *(axis + 1 for axis in chosen), *(axis + 1 for axis in rest))
    matrix = view.reshape(len(state), 2 ** len(chosen), 2 ** (n - len(chosen)))
    return matrix @ matrix.mH
