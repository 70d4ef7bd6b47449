"""How much memory runs take, which way is chosen, and what is said when nothing fits."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.quantum.test_mps import brickwork, farhi_neven
from zoo.errors import CircuitTooLarge, ZooError
from zoo.quantum.ansatze import ansatz
from zoo.quantum.circuit import Circuit, weight
from zoo.quantum.memory import Run, check_memory, choose_method, free_memory, needed
from zoo.quantum.observables import parse_observables

MIB = 2**20


def ladder(n: int, layers: int) -> Circuit:
    """Every wire depends on all wires before it."""
    circuit = Circuit(n)
    for layer in range(layers):
        for wire in range(n):
            circuit.ry(weight(layer * n + wire), wire)
        for wire in range(n - 1):
            circuit.cx(wire, wire + 1)
    return circuit


def test_bytes_of_states():
    """Five states with a gradient: 8 B 2^n 5 bytes in float32."""
    circuit = ladder(14, 2)
    assert needed(Run(circuit, batch=16, gradient=True), "statevector") == 8 * 16 * 2**14 * 5
    assert needed(Run(circuit, batch=16, dtype=torch.float64, gradient=True), "statevector") == 16 * 16 * 2**14 * 5
    assert needed(Run(circuit, batch=16), "statevector") == 8 * 16 * 2**14 * 2
    assert needed(Run(ladder(5, 1), batch=2), "density") == 8 * 2 * 4**5 * 2
    # Trajectories are held 2^22 amplitudes at a time, for a gradient all of them.
    assert needed(Run(circuit, batch=2, trajectories=500), "trajectories") == 8 * 2**22 * 2
    gates = len(circuit)
    of_all = 8 * 500 * 2**14 * (5 + gates)
    assert needed(Run(circuit, trajectories=500, gradient=True), "trajectories") == of_all
    # Autograd keeps the state of every gate.
    assert needed(Run(circuit, gradient=True), "reference") == 8 * 2**14 * (5 + gates)


def test_bytes_of_cones():
    """Of 30 wires in pairs, Z of every wire: 15 cones of 2 wires, all at once."""
    circuit = Circuit(30)
    for wire in range(0, 30, 2):
        circuit.ry(weight(wire), wire).cx(wire, wire + 1)
    observables = parse_observables("z", 30)
    assert needed(Run(circuit, batch=3), "lightcone", observables) == 8 * 3 * 15 * 4 * 2
    assert needed(Run(circuit, batch=3, gradient=True), "lightcone", observables) == 8 * 3 * 15 * 4 * (5 + 1)


def test_free_memory_is_what_the_system_says():
    info = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total = 1024 * int(info["MemTotal"].split()[0])
    assert MIB < free_memory() <= total
    assert Run(Circuit(1)).limit == pytest.approx(0.8 * free_memory(), rel=0.2)


@pytest.mark.parametrize(
    ("circuit", "observables", "max_memory", "method"),
    [
        (ladder(8, 3), "z", None, "statevector"),
        # 12 qubits fit: cones would be less work, but all amplitudes are little.
        (brickwork(12, 2), "z", None, "statevector"),
        (brickwork(40, 4), "z", None, "lightcone"),
        (brickwork(16, 2), "z", None, "lightcone"),
        # Cones of up to 24 wires fit, but the bonds of a chain are at most 64 wide.
        (ansatz("dressed", 40, 6), "z", 2**34, "mps"),
        (ansatz("dressed", 40, 7), "z", 2**34, "lightcone"),
        # Cones as wide as the circuit save nothing.
        (ladder(14, 2), ["Z13"], None, "statevector"),
        (farhi_neven(30, ["ZX", "XX"]), ["Y30"], 2**34, "mps"),
        (ladder(14, 2), ["Z13"], MIB // 8, "mps"),
        # All amplitudes together do not fit, those of a cone do.
        (ladder(14, 1), ["Z3"], MIB // 8, "lightcone"),
    ],
)
def test_choice_by_work_and_bytes(circuit, observables, max_memory, method):
    run = Run(circuit, max_memory=max_memory)
    assert choose_method(run, parse_observables(observables, circuit.n_qubits)) == method


def test_choice_with_noise():
    assert choose_method(Run(ladder(10, 1), noisy=True), None) == "density"
    assert choose_method(Run(ladder(11, 1), noisy=True), None) == "trajectories"
    assert choose_method(Run(ladder(10, 1), max_memory=4 * MIB, noisy=True), None) == "trajectories"
    # Which trajectories pass a post-selection is not known beforehand.
    assert choose_method(Run(ladder(11, 1).post_select(0, 0), noisy=True), None) == "density"


def test_noise_in_narrow_cones():
    circuit = brickwork(40, 2)
    assert choose_method(Run(circuit, noisy=True), parse_observables("z", 40)) == "lightcone"
    with pytest.raises(CircuitTooLarge, match="no other way fits either: with noise"):
        choose_method(Run(circuit, noisy=True), None)


def test_a_state_to_begin_with_has_no_cones():
    observables = parse_observables("z", 16)
    assert choose_method(Run(brickwork(16, 2), given=True), observables) == "statevector"


def test_samples_of_wide_circuits_are_drawn_from_a_chain():
    run = Run(brickwork(40, 4), max_memory=2**34)
    assert choose_method(run, None, sampled=True) == "mps"
    assert choose_method(run, parse_observables("z", 40), sampled=True) == "mps"
    assert choose_method(Run(brickwork(14, 2)), None, sampled=True) == "statevector"
    with pytest.raises(CircuitTooLarge):
        choose_method(replace(run, given=True), None, sampled=True)


def test_too_large_says_how_large_and_what_fits():
    run = Run(brickwork(40, 4), batch=4, dtype=torch.float64, gradient=True, max_memory=2**30)
    with pytest.raises(CircuitTooLarge) as caught:
        check_memory(run, "statevector", parse_observables("z", 40))
    assert isinstance(caught.value, ZooError)
    assert isinstance(caught.value, MemoryError)
    assert str(caught.value) == (
        "40 qubits in a batch of 4 by method='statevector' take 320 TiB of states, more than the 1 GiB that may be "
        "taken (max_memory); what fits: method='mps', method='lightcone' (the widest cone has 8 qubits)"
    )


@pytest.mark.parametrize(
    ("run", "method", "fits"),
    [
        (Run(ladder(14, 2), batch=8, max_memory=MIB), "statevector", ["max_memory of 2 MiB", "batches of 4"]),
        (
            Run(ladder(14, 2), dtype=torch.float64, gradient=True, max_memory=5 * MIB // 6),
            "statevector",
            ["max_memory of 1.25 MiB", "float32", "torch.no_grad(), if no gradient is needed"],
        ),
        (Run(ladder(8, 2), max_memory=MIB // 2), "density", ["max_memory of 1 MiB", "method='trajectories'"]),
        (Run(ladder(10, 1), batch=2, max_memory=MIB), "trajectories", ["max_memory of 4 MiB", "fewer trajectories"]),
    ],
)
def test_ways_out_are_those_that_fit(run, method, fits):
    with pytest.raises(CircuitTooLarge) as caught:
        check_memory(run, method)
    assert str(caught.value).split("what fits: ")[1] == ", ".join(fits)


def test_the_state_of_a_wide_circuit_is_refused():
    with pytest.raises(CircuitTooLarge, match=r"60 qubits .* take 32 EiB .* \(80% of what is free\)") as caught:
        choose_method(Run(brickwork(60, 1), batch=2), None)
    assert str(caught.value).endswith(
        "; what fits: expectations, samples, and probabilities of few wires, by method='mps'"
    )


def test_gates_that_no_way_takes():
    circuit = ladder(40, 2).unitary(torch.eye(2**6), range(6))
    with pytest.raises(CircuitTooLarge, match=r"no other way fits either$"):
        choose_method(Run(circuit, max_memory=MIB), parse_observables(["Z39"], 40))
