"""Hierarchical paths of 32, 128 and 512 words against the reference code's algorithm; and a learning check on peptides.

`python -m benchmarks.quantum_tensor_networks` prints Markdown tables. Further sides, the same algorithm compiled by JAX
and circuits of DisCoPy compiled by JAX, are optional: `pip install jax discopy==0.5.1.1`.
"""

import importlib.util
import itertools
import math
import os
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks._measure import Job, Measurement, Workload, compare, table
from zoo.quantum import QTN

BATCH, WORDS = 64, 20
LENGTHS = (32, 128, 512)
OURS, EAGER, COMPILED = "ours", "gate by gate, PyTorch", "gate by gate, JAX"
#: Of `benchmarks._quantum_discopy`, and the most words that they are measured with: one circuit of 128 words took 13
#: minutes to compile, without gradients.
DISCOPY = {"one circuit": 32, "a circuit a word": max(LENGTHS), "tensors first": max(LENGTHS)}
ANGLES = ("words", "rules", "readout")
Loss = Callable[[Any, Any, Any], Any]


def drawn(length: int) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Angles of a hierarchical path of "qtn14" on one qubit a wire, in full turns; tokens, and classes."""
    torch.manual_seed(0)
    angles = {"words": torch.rand(WORDS, 3), "rules": torch.rand(length - 1, 8), "readout": torch.rand(3)}
    return angles, torch.randint(0, WORDS, (BATCH, length)), torch.randint(0, 2, (BATCH,))


Pair = tuple[Any, Any]


def gate_by_gate(xp: Any, angles: Any, tokens: Any, classes: Any, fold: Callable[..., Pair]) -> Any:
    """The loss as the reference code computes it: two wires as a state of two qubits, gate after gate, word by word.

    Every gate acts on the states of the batch; nothing is rescaled until the probabilities are divided by their sum.

    Args:
        xp: `torch` or `jax.numpy`.
        angles: "words" (V, 3), "rules" (T - 1, 8), "readout" (3,).
        tokens: (B, T).
        classes: (B,).
        fold: fold(merge, state, rules, tokens) gives the state after all steps.
    """
    words = angles["words"]
    zeros = 0j * words[:, 0]
    table = _three(xp, words[:, 0], words[:, 1], words[:, 2], (zeros + 1, zeros))

    def merge(state: Pair, rule: Any, word: Any) -> Pair:
        """The state of the left wire, and a word in the right one, into one wire."""
        left, right = state, (table[0][word], table[1][word])
        # The four amplitudes; the first qubit is the left wire.
        s00, s01, s10, s11 = (one * other for one in left for other in right)
        for place in (0, 4):
            gate = _turned(xp, "y", rule[place])
            (s00, s10), (s01, s11) = _on(gate, (s00, s10)), _on(gate, (s01, s11))
            gate = _turned(xp, "y", rule[place + 1])
            (s00, s01), (s10, s11) = _on(gate, (s00, s01)), _on(gate, (s10, s11))
            # The second qubit controls, then the first.
            s01, s11 = _on(_turned(xp, "x", rule[place + 2]), (s01, s11))
            s10, s11 = _on(_turned(xp, "x", rule[place + 3]), (s10, s11))
        return s00, s10  # the second qubit is found in 0

    first = tokens[:, 0]
    state = fold(merge, (table[0][first], table[1][first]), angles["rules"], tokens[:, 1:].T)
    last = angles["readout"]
    zero, one = (abs(part) ** 2 for part in _three(xp, last[0], last[1], last[2], state))
    return -xp.log(xp.where(classes == 0, zero, one) / (zero + one) + 1e-7).sum()


def _turned(xp: Any, kind: str, turns: Any) -> tuple[Any, ...]:
    """The entries of exp(-i pi turns P), row by row."""
    c, s = xp.cos(math.pi * turns), xp.sin(math.pi * turns)
    if kind == "x":
        return c, -1j * s, -1j * s, c
    return (c, -s, s, c) if kind == "y" else (c - 1j * s, 0, 0, c + 1j * s)


def _on(gate: tuple[Any, ...], state: Pair) -> Pair:
    a, b, c, d = gate
    return a * state[0] + b * state[1], c * state[0] + d * state[1]


def _three(xp: Any, first: Any, second: Any, third: Any, state: Pair) -> Pair:
    """Rx, Rz and Rx on one qubit."""
    for kind, turns in (("x", first), ("z", second), ("x", third)):
        state = _on(_turned(xp, kind, turns), state)
    return state


def _one_by_one(merge: Callable[..., Pair], state: Pair, rules: Any, tokens: Any) -> Pair:
    for rule, word in zip(rules, tokens, strict=True):
        state = merge(state, rule, word)
    return state


def _ours(length: int) -> tuple[Callable[[], Tensor], list[Tensor]]:
    angles, tokens, classes = drawn(length)
    net = QTN(WORDS, max_len=length, sharing="hierarchical")
    net.load_state_dict({f"{name}.weight": angles[name].reshape(-1, angles[name].shape[-1]) for name in ANGLES})
    parameters = [net.get_parameter(f"{name}.weight") for name in ANGLES]
    return lambda: net.loss(net(tokens), classes, reduction="sum"), parameters


def _eager(length: int) -> tuple[Callable[[], Tensor], list[Tensor]]:
    angles, tokens, classes = drawn(length)
    leaves = {name: value.requires_grad_() for name, value in angles.items()}
    return lambda: gate_by_gate(torch, leaves, tokens, classes, _one_by_one), list(leaves.values())


def merge_call(side: str, length: int, training: bool) -> Workload:
    """The loss of 64 sequences; training: and the gradients of all angles."""
    if side not in (OURS, EAGER):
        return Workload(_compiled(side, length, training).call)
    loss, parameters = (_ours if side == OURS else _eager)(length)

    def inference() -> None:
        with torch.no_grad():
            loss()

    def step() -> None:
        torch.autograd.grad(loss(), parameters)

    return Workload(step, loss, own=parameters) if training else Workload(inference)


class Compiled(NamedTuple):
    """A function that JAX has compiled, and the seconds that took: the loss, or the loss and its gradients by name."""

    call: Callable[[], Any]
    seconds: float


def _compiled(side: str, length: int, training: bool) -> Compiled:
    import jax  # pyright: ignore[reportMissingImports] - optional
    import jax.numpy as jnp  # pyright: ignore[reportMissingImports]

    angles, tokens, classes = (
        {name: jnp.asarray(value.numpy()) for name, value in part.items()}
        if isinstance(part, dict)
        else jnp.asarray(part.numpy())
        for part in drawn(length)
    )

    def fold(merge: Callable[..., Pair], state: Pair, rules: Any, words: Any) -> Pair:
        return jax.lax.scan(lambda found, step: (merge(found, *step), None), state, (rules, words))[0]

    def loss(given: Any) -> Any:
        if side == COMPILED:
            return gate_by_gate(jnp, given, tokens, classes, fold)
        from benchmarks._quantum_discopy import loss_of

        return loss_of(side, given, tokens, classes)

    start = time.perf_counter()
    call = jax.jit(jax.value_and_grad(loss) if training else loss).lower(angles).compile()
    return Compiled(lambda: jax.block_until_ready(call(angles)), time.perf_counter() - start)


def sides_of(length: int) -> list[str]:
    """Those that are measured with so many words; whether what they need is installed is another question."""
    return [OURS, EAGER, COMPILED, *(f"DisCoPy + JAX, {way}" for way, most in DISCOPY.items() if length <= most)]


def _installed(side: str) -> bool:
    needed = [] if side in (OURS, EAGER) else ["jax"] if side == COMPILED else ["jax", "discopy"]
    return all(importlib.util.find_spec(package) is not None for package in needed)


class Checked(NamedTuple):
    """Whether a side's values and gradients are finite; seconds of compiling the loss, and that with gradients."""

    finite: bool
    seconds: tuple[float, float] | None


def check(length: int) -> dict[str, Checked]:
    """What the sides are; those that are finite agree.

    Raises:
        AssertionError: two differ.
    """
    values, found = {}, {}
    for side in filter(_installed, sides_of(length)):
        seconds = None
        if side in (OURS, EAGER):
            loss, parameters = (_ours if side == OURS else _eager)(length)
            value = loss()
            values[side] = [value.detach(), *(g.flatten() for g in torch.autograd.grad(value, parameters))]
        else:
            forward, training = (_compiled(side, length, which) for which in (False, True))
            seconds = forward.seconds, training.seconds
            value, gradients = training.call()
            values[side] = [torch.tensor(np.array(part)).flatten() for part in (value, *map(gradients.get, ANGLES))]
            values[side][0] = values[side][0].squeeze()
        found[side] = Checked(all(bool(torch.isfinite(part).all()) for part in values[side]), seconds)
    for side, (finite, _) in found.items():
        if finite:
            for got, wanted in zip(values[side], values[OURS], strict=True):
                torch.testing.assert_close(
                    got, wanted, rtol=2e-2, atol=2e-2 * float(wanted.abs().max()), msg=lambda m, s=side: f"{s}: {m}"
                )
    return found


def _rows(length: int) -> list[list[str]]:
    checked = check(length)
    rows = []
    for training in (False, True):
        found = compare(
            {
                side: Job(
                    "benchmarks.quantum_tensor_networks:merge_call",
                    {"side": side, "length": length, "training": training},
                )
                for side in checked
            }
        )
        what = "with gradient" if training else "forward"
        for side in sides_of(length):
            start = [str(length), what, side]
            if side not in found:
                rows.append([*start, "not run", *[""] * 6])
                continue
            finite, seconds = checked[side]
            compiling = "" if seconds is None else f"{seconds[training]:.0f}"
            rows.append([*start, "finite" if finite else "NaN", compiling, *_cells(found[side], found[OURS])])
    return rows


def _cells(side: Measurement, own: Measurement) -> list[str]:
    numbers = [side.reuse_ms, side.reuse_ms / own.reuse_ms, side.default_ms, side.default_ms / own.default_ms]
    return [*(f"{number:.1f}" for number in numbers), f"{max(side.peak_mb, 0):.0f}"]


def learning() -> list[list[str]]:
    """Accuracies on `peptides`: the checkpoint that ships, and logistic regressions of as many numbers."""
    from sklearn.linear_model import LogisticRegression

    import zoo
    from zoo.models.deeprc import AMINO_ACIDS
    from zoo.training.data import open_splits
    from zoo.training.data.sequences import SequenceSet

    sets = {name: part for name, part in open_splits("peptides").present().items() if isinstance(part, SequenceSet)}
    shown = []
    for split in ("val", "test"):
        shown.append(f"{zoo.evaluate('qtn_uptn_aa.peptides', 'peptides', split=split, progress=False)['accuracy']:.3f}")
    rows = [["`qtn_uptn_aa.peptides`", "74", *shown]]
    for parts in (1, 3):
        shares = {
            name: np.array([_composition(text, parts, AMINO_ACIDS) for text in part.texts])
            for name, part in sets.items()
        }

        def fitted(penalty: float, x: np.ndarray = shares["train"]) -> Any:
            return LogisticRegression(C=penalty, max_iter=10_000).fit(x, sets["train"].labels)

        models = [fitted(10.0**k) for k in range(-2, 4)]
        best = max(models, key=lambda model: model.score(shares["val"], sets["val"].labels))
        scores = [f"{best.score(shares[split], sets[split].labels):.3f}" for split in ("val", "test")]
        what = "the whole" if parts == 1 else f"{parts} thirds"
        rows.append([f"logistic regression, amino acids of {what}", str(20 * parts + 1), *scores])
    return rows


def _composition(text: str, parts: int, letters: str) -> np.ndarray:
    """Shares of the amino acids in equal parts of a sequence."""
    cuts = [round(k * len(text) / parts) for k in range(parts + 1)]
    pieces = [text[a:b] for a, b in itertools.pairwise(cuts)]
    return np.array([piece.count(letter) / max(len(piece), 1) for piece in pieces for letter in letters])


def _measured() -> str:
    """The table of all lengths. What JAX compiles is kept until it is complete, for all processes."""
    head = ["words", "pass", "side", "result", "compile s", "ms (reuse)", "times ours", "ms (default)", "times ours"]
    with tempfile.TemporaryDirectory() as cache:
        os.environ.update(
            JAX_COMPILATION_CACHE_DIR=cache,
            JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
            XLA_FLAGS="--xla_cpu_multi_thread_eigen=false",
        )
        return table([*head, "peak MB"], [row for length in LENGTHS for row in _rows(length)])


def main() -> None:
    print(_measured())
    print(
        "\nHierarchical path, one qubit a wire, ansatz qtn14, post-selection, 64 sequences, 20 words, angles uniform "
        "in a full turn, float32; loss, or loss and the gradients of all angles. *gate by gate* is the arithmetic of "
        "the reference code: one word after the other, eight gates each on the states of two qubits, divided by the "
        "norm at the end; *JAX* is that, compiled as a scan over the words. *DisCoPy + JAX* are circuits of "
        "DisCoPy 0.5.1.1, evaluated as tensors with its JAX backend, jit and vmap over the sequences: *one circuit* "
        "of all words, which is measured with 32 only (with 128 its loss alone took 13 minutes to compile, and was "
        "NaN); *a circuit a word* on the state of those before, in a scan; *tensors first*: the states of all "
        "words and the tensors of all boxes as circuits, once, which a scan contracts. Compiling, which calls do not "
        "count, includes tracing. Where they are finite, values and gradients of all sides were compared in the same "
        "run.\n"
    )
    print(table(["model", "numbers", "val accuracy", "test accuracy"], learning()))
    print(
        "\nPeptides: 280 to train, 50 by which everything was chosen, 82 to test. The regressions' penalty is the one "
        "of 0.01, 0.1 ... 1000 that is best on the 50."
    )


if __name__ == "__main__":
    main()
