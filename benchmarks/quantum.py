"""Simulated circuits against the simulators that people use, on three circuits; and the memory of deep ones.

`python -m benchmarks.quantum` prints Markdown tables; `python -m benchmarks.quantum SEL10` only some of their rows.
The others are optional: `pip install pennylane pennylane-lightning torchquantum-ng deepquantum` (DeepQuantum also needs
`"bayesian-optimization<2"`).
"""

import functools
import subprocess
import sys

import torch

from benchmarks._measure import REPEATS, WARM_UPS, Job, Measurement, Workload, compare, table
from benchmarks._quantum_peers import CASES, SIDES, entangling, installed, ours

#: Samples of the deep circuits.
_SAMPLES = 32
_CASES_NOTE = (
    "\n*SEL10*: 10 qubits, 64 samples, RY of the features, 6 strongly entangling layers (180 weights), Z of all. "
    "*DQC4*: the dressed circuit, 4 qubits, 256 samples, H and RY of the features, 6 layers of CNOTs and RY, Z of "
    "all. *FN17*: 16 bits and a readout, 16 samples, ZX and XX rotations of every bit with the readout, three "
    "layers of both (96 weights), Y of the readout; by the state of all 17 qubits, not by the closed form; "
    "the best of three calls after one. "
    "Gradients are of the weights and, but for FN17, of the features. lightning.qubit computes in complex64, "
    "sample by sample; default.qubit in complex128, all samples at once. Values and gradients of all sides were "
    "compared in the same run."
)
_MEMORY_NOTE = (
    f"\nMemory of two steps of forward and backward, {_SAMPLES} samples, strongly entangling layers, in states of all "
    "samples (complex64), with malloc as it is (`python -m benchmarks.quantum memory` prints this table "
    "alone). *An idle process* has imported all and used PyTorch for something else; building and compiling "
    "the circuit are counted.\n"
)
IDLE, BUILT = "an idle process", "the compiled circuit"


def circuit_call(side: str, case: str, training: bool) -> Workload:
    """Expectations of a case; training: and the gradients of their sum."""
    made = SIDES[side][0](CASES[case]())

    def inference() -> None:
        with torch.no_grad():
            made.value()

    def step() -> None:
        made.value().sum().backward()
        made.gradients()

    return Workload(step, made.value) if training else Workload(inference)


def deep_call(qubits: int, layers: int, over: str) -> Workload:
    """Expectations and gradients of many entangling layers.

    Args:
        qubits: of the circuit.
        layers: of the circuit.
        over: IDLE: the first call builds and compiles the circuit; BUILT: that is done before.
    """
    made = functools.cache(lambda: ours(entangling(qubits, _SAMPLES, layers)))
    if over == BUILT:
        with torch.no_grad():
            made().value()
    else:  # PyTorch has allocated what it keeps, for something else
        x = torch.rand(256, 256, dtype=torch.complex64, requires_grad=True)
        (x @ x).abs().sum().backward()

    def step() -> None:
        made().value().sum().backward()
        made().gradients()

    return Workload(step, lambda: made().value())


def check(case: str, sides: list[str]) -> None:
    """All sides give the same values and gradients.

    Raises:
        AssertionError: two differ.
    """
    found = {}
    for side in sides:
        made = SIDES[side][0](CASES[case]())
        value = made.value()
        value.sum().backward()
        found[side] = [value.detach(), *made.gradients()]
    for side in sides[1:]:
        for got, wanted in zip(found[side], found["ours"], strict=True):
            torch.testing.assert_close(
                got.to(wanted.dtype), wanted, rtol=1e-3, atol=2e-4, msg=lambda m, s=side: f"{s}: {m}"
            )


def _rows(case: str) -> list[list[str]]:
    sides = [side for side in SIDES if installed(side)]
    # In a process of its own: some sides keep gigabytes.
    call = f"from benchmarks.quantum import check; check({case!r}, {sides!r})"
    subprocess.run([sys.executable, "-c", call], check=True)
    rows = []
    for training in (False, True):
        jobs = {
            side: Job("benchmarks.quantum:circuit_call", {"side": side, "case": case, "training": training})
            for side in sides
        }
        slow = case == "FN17"
        found = compare(jobs, repeats=3 if slow else REPEATS, warm_ups=1 if slow else WARM_UPS)
        start = [case, "with gradient" if training else "forward"]
        rows += [[*start, side, *_cells(found.get(side), found["ours"])] for side in SIDES]
    return rows


def _cells(side: Measurement | None, own: Measurement) -> list[str]:
    if side is None:
        return ["not installed", *[""] * 4]
    return [
        f"{side.reuse_ms:.2f}",
        f"{side.reuse_ms / own.reuse_ms:.1f}",
        f"{side.default_ms:.2f}",
        f"{side.default_ms / own.default_ms:.1f}",
        f"{side.peak_mb:.0f}",
    ]


def _memory() -> list[list[str]]:
    kinds = [(over, qubits, layers) for over, qubits in ((IDLE, 18), (BUILT, 16)) for layers in (20, 200)]
    rows = []
    for over, qubits, layers in kinds:  # one after the other: each may take gigabytes
        job = Job("benchmarks.quantum:deep_call", {"qubits": qubits, "layers": layers, "over": over})
        (found,) = compare({over: job}, repeats=2, warm_ups=0, modes=("default",)).values()
        state = _SAMPLES * 2**qubits * 8 / 1e6
        peak, kept = found.peak_mb, found.saved_mb or 0
        shown = f"{state:.1f}", f"{peak:.0f}", f"{peak / state:.1f}", f"{kept / state:.1f}"
        rows.append([over, str(qubits), str(layers), *shown])
    return rows


def main() -> None:
    chosen = sys.argv[1:] or [*CASES, "memory"]
    if any(case in CASES for case in chosen):
        head = ["circuit", "pass", "side", "ms (reuse)", "times ours", "ms (default)", "times ours", "peak MB"]
        print(table(head, [row for case in chosen if case in CASES for row in _rows(case)]))
        print(_CASES_NOTE)
    if "memory" in chosen:
        print(_MEMORY_NOTE)
        head = ["counted over", "qubits", "layers", "a state, MB", "peak MB", "peak, states", "kept for backward"]
        print(table(head, _memory()))


if __name__ == "__main__":
    main()
