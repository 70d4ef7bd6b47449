"""Single sentences as lambeq's readers make them into post-selected circuits: stairs and cups."""

from collections.abc import Sequence

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from zoo.eager import must_compose
from zoo.quantum.ansatze import ansatz as ansatz_circuit
from zoo.quantum.qtn.scan import Rescaler
from zoo.quantum.qtn.success import check_success
from zoo.quantum.qtn.unitaries import SmallCircuit

_STAIR, _START = "STAIR_s@s_s", "START__s"


class Sentence:
    """One sentence, as a function of its symbols' values.

    Attributes:
        symbols: their names, sorted as texts, as lambeq has them.
        tokens: the words.

    Args:
        tokens: the words, one at least.
        labels: of the boxes, in the order in which they act.
        ansatz, n_layers, qubits: see `stairs`.
        states: how many wires come out of each box, and none goes in; 0 for a box of two wires into one.
    """

    def __init__(
        self,
        tokens: Sequence[str],
        labels: Sequence[str],
        states: Sequence[int],
        ansatz: str,
        n_layers: int,
        qubits: int,
    ):
        if not tokens:
            raise ValueError("a sentence has at least one word")
        self.tokens, self.qubits = tuple(tokens), qubits
        self._circuits = {
            wires: SmallCircuit(ansatz_circuit(ansatz, (wires or 2) * qubits, n_layers)) for wires in set(states)
        }
        self._boxes = list(zip(labels, states, strict=True))
        names = {f"{label}_{k}" for label, wires in self._boxes for k in range(self._circuits[wires].n_weights)}
        self.symbols = tuple(sorted(names))

    def amplitudes(self, values: Float[Tensor, "*batch symbols"]) -> Complex[Tensor, "*batch outcomes"]:
        """The unnormalised state of the sentence, (*, 2**qubits).

        Args:
            values: of `symbols`, in full turns for the ansätze of language.

        Raises:
            ValueError: not as many values as symbols, or one that is not finite.
            TypeError: no tensor of real floating-point numbers.
        """
        return self._state(self._rows(values), None).view(*values.shape[:-1], -1)

    def probabilities(self, values: Float[Tensor, "*batch symbols"]) -> Float[Tensor, "*batch outcomes"]:
        """Of the outcomes, given that all post-selections succeed.

        Raises:
            ValueError, TypeError: as `amplitudes`.
            PostSelectionError: they never do.
        """
        rows = self._rows(values)
        rescale = Rescaler(len(rows), rows)
        found = self._state(rows, rescale).abs().square()
        total = found.sum(-1, keepdim=True)
        check_success(total.squeeze(-1), rescale, "other values help")
        return (found / total).view(*values.shape[:-1], -1)

    def _rows(self, values: Tensor) -> Tensor:
        if not isinstance(values, Tensor) or not values.is_floating_point():
            got = values.dtype if isinstance(values, Tensor) else type(values).__name__
            raise TypeError(f"values are a tensor of floating-point numbers, one for each of .symbols, got {got}")
        if not values.ndim or values.shape[-1] != len(self.symbols):
            raise ValueError(f"the sentence has {len(self.symbols)} symbols, got values {tuple(values.shape)}")
        if not (must_compose(values) or values.is_meta or bool(values.isfinite().all())):
            place = tuple((~values.isfinite()).nonzero()[0].tolist())
            raise ValueError(f"values must be finite, got {float(values[place])} at {place}")
        return values.reshape(-1, len(self.symbols))

    def _state(self, rows: Tensor, rescale: Rescaler | None) -> Tensor:
        """(B, outcomes), over all that `rescale` divides by after each merge."""
        state: Tensor | None = None
        for label, wires in self._boxes:
            circuit = self._circuits[wires]
            places = [self.symbols.index(f"{label}_{k}") for k in range(circuit.n_weights)]
            unitary = circuit.unitaries(rows[:, places])
            dim = 2**self.qubits
            if wires == 2:  # a word between two cups: what comes in meets its first wire
                word = unitary[:, :, 0].unflatten(1, (dim, dim))
                assert state is not None
                state = torch.einsum("bi,bio->bo", state, word)
                state = state if rescale is None else rescale(state, 1)
            elif wires:
                word = unitary[:, :, 0]
                state = word if state is None else (state.unsqueeze(2) * word.unsqueeze(1)).flatten(1)
            elif state is not None:  # of the two wires the first is kept, the other is found in 0
                state = (unitary @ state.unsqueeze(2)).squeeze(2).unflatten(1, (dim, dim))[:, :, 0]
                state = state if rescale is None else rescale(state, 1)
        assert state is not None
        return state


def stairs(tokens: Sequence[str], *, ansatz: str = "sim14", n_layers: int = 1, qubits: int = 1) -> Sentence:
    """Words are states; one box merges each into the state of those before it: a `QTN` that is a uniform path.

    Unlike a `QTN`, which keeps the even qubits of two wires, lambeq keeps the first; and no gates follow the last box.

    Args:
        tokens: the words.
        ansatz: of words and boxes, such as "sim14", "sim15" or "iqp".
        n_layers: of the ansatz.
        qubits: of a wire.
    """
    labels, states = [f"{tokens[0]}__s"] if tokens else [], [1]
    for word in tokens[1:]:
        labels += [f"{word}__s", _STAIR]
        states += [1, 0]
    return Sentence(tokens, labels, states, ansatz, n_layers, qubits)


def cups(tokens: Sequence[str], *, ansatz: str = "iqp", n_layers: int = 1) -> Sentence:
    """A start state, and words of two wires each, joined by cups, sum_i <ii|: a matrix product state, a qubit a wire.

    Args:
        tokens: the words.
        ansatz: of start and words.
        n_layers: of the ansatz.
    """
    labels = [_START, *(f"{word}__s.r@s" for word in tokens)]
    return Sentence(tokens, labels, [1, *(2 for _ in tokens)], ansatz, n_layers, 1)
