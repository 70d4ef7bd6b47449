"""Expectations of many observables in a batch of states, without an operator on all wires.

Words of Z are sums of the probabilities with signs: for few amplitudes one product with a matrix of signs, for many the
vector is halved wire by wire. Words with X or Y are words of Z after a change of basis of their wires; words that agree
on every wire share it.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

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


def as_complex(state: Tensor) -> Tensor:
    """Real amplitudes as complex ones."""
    return state if state.is_complex() else torch.complex(state, torch.zeros_like(state))


def probabilities(state: Tensor) -> Tensor:
    """|amplitude|^2, real."""
    if not state.is_complex():
        return state.square()
    if must_compose(state):
        return torch.view_as_real(state).square().sum(-1)
    return _Probabilities.apply(state)  # pyright: ignore[reportReturnType]


class _Probabilities(torch.autograd.Function):
    """Half as large as the states, and made without anything larger."""

    @staticmethod
    def forward(ctx: Any, state: Tensor) -> Tensor:
        ctx.save_for_backward(state)
        real, imaginary = state.real, state.imag
        return real.square().addcmul_(imaginary, imaginary)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (state,) = ctx.saved_tensors
        return state * (2 * gradients[0])


@dataclass(frozen=True)
class Group:
    """Words that one measurement of every wire gives together.

    Args:
        basis: (wire, letter) pairs.
        words: the wires of each word.
        columns: a row a word: its coefficient in each observable; empty where the words are the observables.
    """

    basis: tuple[tuple[int, str], ...]
    words: tuple[tuple[int, ...], ...]
    columns: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Plan:
    """How to measure observables: groups of words, a constant for each, and which are no combinations of words."""

    groups: tuple[Group, ...]
    constants: tuple[float, ...]
    others: tuple[int, ...]


def plan(observables: tuple[Observable, ...]) -> Plan:
    """The fewest groups of words that a greedy choice finds."""
    sums = [{word.letters: c for c, word in o.terms} if isinstance(o, PauliSum) else {} for o in observables]
    identity = tuple(tuple(float(i == j) for j in range(len(sums))) for i in range(len(sums)))
    groups = []
    for basis, members in commuting_groups([letters for terms in sums for letters in terms]):
        columns = tuple(tuple(terms.get(letters, 0.0) for terms in sums) for letters in members)
        words = tuple(tuple(wire for wire, _ in letters) for letters in members)
        groups.append(Group(tuple(basis.items()), words, () if columns == identity else columns))
    constants = tuple(terms.get((), 0.0) for terms in sums)
    others = tuple(i for i, o in enumerate(observables) if not isinstance(o, PauliSum))
    return Plan(tuple(groups), constants if any(constants) else (), others)


_kept_plan = functools.lru_cache(maxsize=128)(plan)


def expectations(state: Tensor, observables: Sequence[Observable], n: int) -> Tensor:
    """(B, n_observables) real expectations in (B, 2^n) states; differentiable.

    Args:
        state: complex amplitudes, or real ones.
        observables: as `parse_observables` gives them.
        n: the number of wires.
    """

    def chances_in(basis: dict[int, str]) -> Tensor:
        return probabilities(in_basis(state, basis, n))

    def of_matrix(observable: Hermitian) -> Tensor:
        return overlap(as_complex(state), apply_observable(state, observable, n))

    return measured(chances_in, observables, n, of_matrix)


def measured(
    chances_in: Callable[[dict[int, str]], Tensor],
    observables: Sequence[Observable],
    n: int,
    of_matrix: Callable[[Hermitian], Tensor] | None = None,
) -> Tensor:
    """(B, n_observables) expectations from the probabilities of basis states, as a device finds them.

    Args:
        chances_in: basis (wire -> letter; {} for Z everywhere) -> (B, 2^n) probabilities after the change to it.
        observables: as `parse_observables` gives them.
        n: the number of wires.
        of_matrix: the expectation of a Hermitian matrix, (B,); None where there is no way to have it.

    Raises:
        ValueError: a Hermitian matrix without `of_matrix`.
    """
    given = tuple(observables)
    found = plan(given) if torch.compiler.is_compiling() else _kept_plan(given)
    result: Tensor | None = None
    chances: Tensor | None = None
    for group in found.groups:
        chances = chances_in(dict(group.basis))
        part = z_words(chances, group.words, n)
        part = part @ chances.new_tensor(group.columns) if group.columns else part
        result = part if result is None else result + part
    if chances is None or result is None or found.others:
        chances = chances_in({})
        result = chances.new_zeros(chances.shape[0], len(given)) if result is None else result
    if found.constants:  # in every basis the probabilities have the same sum
        result = result + chances.sum(-1, keepdim=True) * chances.new_tensor(found.constants)
    if found.others:
        columns = list(result.unbind(-1))
        for place in found.others:
            columns[place] = _of_other(given[place], chances, n, of_matrix)
        result = torch.stack(columns, dim=-1)
    return result


def _of_other(
    observable: Observable, chances: Tensor, n: int, of_matrix: Callable[[Hermitian], Tensor] | None
) -> Tensor:
    if isinstance(observable, Projector):
        sizes, chosen, _ = split_wires(observable.wires, n)
        view = chances.reshape(chances.shape[0], *sizes)
        for axis, bit in zip(chosen, observable.bits, strict=True):
            view = view.narrow(axis + 1, int(bit), 1)
        return view.flatten(1).sum(-1)
    assert isinstance(observable, Hermitian)
    if of_matrix is None:
        raise ValueError("a Hermitian matrix cannot be read wire by wire; write it as a sum of Pauli words")
    return of_matrix(observable)


def in_basis(state: Tensor, basis: dict[int, str], n: int) -> Tensor:
    """States in which measuring every wire in Z gives what measuring it in `basis` (wire -> letter) gave before."""
    for wire, letter in basis.items():
        if letter != "z":
            rows = _TO_Z[letter]
            state = state if letter == "x" else as_complex(state)
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
    first, second = chances.unflatten(-1, (2, -1)).unbind(-2)
    without = {word for word in words if wire not in word}
    if without:
        _halve(first + second, wire + 1, taken, without, n, found)
    if len(without) < len(words):
        _halve(first - second, wire + 1, (*taken, wire), words - without, n, found)


def apply_word(state: Tensor, word: PauliWord, n: int) -> Tensor:
    """(B, 2^n) amplitudes after a Pauli word."""
    sizes, axes, _ = split_wires(word.wires, n)
    view = state.reshape(state.shape[0], *sizes)
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
    state = as_complex(state)
    if isinstance(observable, Hermitian):
        return apply_matrix(state, matrix_of(observable, state), observable.wires, n)
    if isinstance(observable, Projector):
        keep = torch.zeros(2 ** len(observable.wires), dtype=state.dtype, device=state.device)
        keep[int(observable.bits, 2)] = 1
        return apply_matrix(state, torch.diag(keep), observable.wires, n)
    return sum((c * apply_word(state, word, n) for c, word in observable.terms), torch.zeros_like(state))


def overlap(bra: Tensor, ket: Tensor) -> Tensor:
    """Re <bra|ket>, row by row, of complex vectors."""
    return (torch.view_as_real(bra) * torch.view_as_real(ket)).sum((-2, -1))


def second_moments(state: Tensor, observables: Sequence[Observable], n: int) -> Tensor:
    """(B, n_observables) expectations of the observables' squares; differentiable."""
    return torch.stack([probabilities(apply_observable(state, o, n)).sum(-1) for o in observables], dim=-1)


def marginal(chances: Tensor, wires: Sequence[int], n: int) -> Tensor:
    """(B, 2^k) probabilities of the outcomes of k wires, the first the most significant bit."""
    if tuple(wires) == tuple(range(n)):
        return chances
    sizes, chosen, rest = split_wires(wires, n)
    view = chances.reshape(chances.shape[0], *sizes)
    view = view.permute(0, *(axis + 1 for axis in chosen), *(axis + 1 for axis in rest))
    return view.reshape(chances.shape[0], 2 ** len(chosen), 2 ** (n - len(chosen))).sum(-1)


def reduced_density(state: Tensor, wires: Sequence[int], n: int) -> Tensor:
    """(B, 2^k, 2^k) complex density matrices of k wires, the others traced out."""
    sizes, chosen, rest = split_wires(wires, n)
    view = state.reshape(state.shape[0], *sizes)
    view = view.permute(0, *(axis + 1 for axis in chosen), *(axis + 1 for axis in rest))
    matrix = view.reshape(state.shape[0], 2 ** len(chosen), 2 ** (n - len(chosen)))
    return as_complex(matrix @ matrix.mH)
