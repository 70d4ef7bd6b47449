"""A path of words as circuits of DisCoPy, evaluated by JAX in three ways.

All three are functions of the angles and of one sentence, to be compiled and mapped over the sentences of a batch.
DisCoPy evaluates a circuit box after box, on the states of the wires that there are; after each merge one is left.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax  # pyright: ignore[reportMissingImports] - optional
import jax.numpy as jnp  # pyright: ignore[reportMissingImports]
from discopy.quantum import Bra, Id, Ket, Rx, Ry, Rz, qubit  # pyright: ignore[reportMissingImports]
from discopy.quantum.circuit import Box  # pyright: ignore[reportMissingImports]
from discopy.quantum.gates import CRx, rewire  # pyright: ignore[reportMissingImports]
from discopy.tensor import Tensor  # pyright: ignore[reportMissingImports]

Angles = dict[str, Any]


class _Phase:
    """A phase that JAX traces. DisCoPy multiplies it by pi, but asks it for symbols first, which JAX's own refuse."""

    def __init__(self, turns: Any):
        self.turns = turns

    def __rmul__(self, factor: Any) -> Any:
        return factor * self.turns


class _State(Box):
    """A qubit in a state that was computed before."""

    def __init__(self, amplitudes: Any):
        super().__init__("state", qubit**0, qubit, is_mixed=False)
        self.array = amplitudes


def whole(angles: Angles, tokens: Any) -> Any:
    """One circuit of all words."""
    words = angles["words"][tokens]
    circuit = Ket(0) >> _single(words[0])
    for k in range(1, len(words)):
        circuit = circuit >> _merged(words[k], angles["rules"][k - 1])
    return _evaluated(circuit >> _single(angles["readout"]))


def word_by_word(angles: Angles, tokens: Any) -> Any:
    """The same, as a circuit a word, on the state of those before: the loop is JAX's scan."""
    words = angles["words"][tokens]

    def step(state: Any, given: Any) -> tuple[Any, None]:
        return _evaluated(_State(state) >> _merged(*given)), None

    state = jax.lax.scan(step, _evaluated(Ket(0) >> _single(words[0])), (words[1:], angles["rules"]))[0]
    return _evaluated(_State(state) >> _single(angles["readout"]))


def tensors_first(angles: Angles, tokens: Any) -> Any:
    """Circuits of single words and boxes, whose tensors are contracted along the path by JAX's scan."""
    words = jax.vmap(lambda given: _evaluated(Ket(0) >> _single(given)))(angles["words"])[tokens]
    boxes = jax.vmap(lambda given: _evaluated(_box(given)))(angles["rules"])

    def step(state: Any, given: Any) -> tuple[Any, None]:
        return jnp.einsum("l,r,lro->o", state, *given), None

    return jax.lax.scan(step, words[0], (words[1:], boxes))[0] @ _evaluated(_single(angles["readout"]))


WAYS: dict[str, Callable[[Angles, Any], Any]] = {
    "one circuit": whole,
    "a circuit a word": word_by_word,
    "tensors first": tensors_first,
}


def loss_of(side: str, angles: Angles, tokens: Any, classes: Any) -> Any:
    """The sum over a batch, after post-selection."""

    def of_one(sentence: Any, label: Any) -> Any:
        found = jnp.abs(WAYS[side.removeprefix("DisCoPy + JAX, ")](angles, sentence)) ** 2
        return -jnp.log(found[label] / found.sum() + 1e-7)

    return jax.vmap(of_one)(tokens, classes).sum()


def _evaluated(circuit: Any) -> Any:
    """Amplitudes, the incoming qubits before the outgoing ones."""
    with Tensor.backend("jax"):
        return circuit.eval().array


def _single(turns: Sequence[Any]) -> Any:
    first, second, third = (_Phase(turns[k]) for k in range(3))
    return Rx(first) >> Rz(second) >> Rx(third)


def _merged(word: Any, rule: Any) -> Any:
    """A word beside the state, and both into one qubit."""
    return Id(1) @ (Ket(0) >> _single(word)) >> _box(rule)


def _box(turns: Any) -> Any:
    """Two qubits into one."""
    circuit = Id(2)
    for k in (0, 4):
        first, second, up, down = (_Phase(turns[k + place]) for place in range(4))
        circuit = circuit >> Ry(first) @ Ry(second) >> rewire(CRx(up), 1, 0, dom=qubit**2) >> CRx(down)
    return circuit >> Id(1) @ Bra(0)
