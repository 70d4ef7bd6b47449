"""How gates are merged into stages."""

from __future__ import annotations

import time

from zoo.quantum.circuit import Circuit, feature, weight
from zoo.quantum.engine.layout import BitMap, windows
from zoo.quantum.engine.schedule import Monomial, Wall, schedule


def test_phases_between_cnots_become_one_diagonal():
    """CNOT P CNOT of all pairs, the ZZ feature map, permutes nothing in the end."""
    circuit = Circuit(4)
    for wire in range(4):
        circuit.h(wire)
    for first in range(4):
        for second in range(first + 1, 4):
            circuit.cx(first, second).phase(feature(first), second).cx(first, second)
    wall, diagonal = schedule(circuit)
    assert isinstance(wall, Wall)
    assert isinstance(diagonal, Monomial)
    assert not diagonal.rows
    assert {phase.wires for phase in diagonal.phases if len(phase.wires) == 2} == {
        frozenset([first, second]) for first in range(4) for second in range(first + 1, 4)
    }


def test_commuting_rotations_share_their_change_of_basis():
    """ZX and XX of every wire with the readout: a diagonal each, between walls of H."""
    circuit = Circuit(5)
    for layer, word in enumerate(("zx", "xx", "zx")):
        for wire in range(4):
            circuit.pauli_rot(word, weight(4 * layer + wire), wire, 4)
    stages = schedule(circuit)
    walls = [sorted(stage.wires) for stage in stages if isinstance(stage, Wall)]
    assert walls == [[4], [0, 1, 2, 3], [0, 1, 2, 3], [4]]
    assert [len(stage.phases) for stage in stages if isinstance(stage, Monomial)] == [4, 4, 4]


def test_what_comes_to_nothing_goes():
    assert schedule(Circuit(2).h(0).h(0).x(1).x(1).cx(0, 1).cx(0, 1)) == []


def test_gates_move_to_the_first_place_that_they_may_take():
    circuit = Circuit(3).ry("a", 0).cx(0, 1).ry("b", 2).cz(0, 1).rz("c", 1)
    wall, rest = schedule(circuit)
    assert wall.wires == {0, 2}
    # CZ = phases of nothing, each wire and both; after the CNOT wire 1 is the parity of 0 and 1.
    assert [sorted(phase.wires) for phase in rest.phases] == [[], [0], [0, 1], [1], [0, 1]]


def test_windows_cover_their_wires():
    assert windows(range(10), 10, False) == [(0, 3), (3, 6), (6, 10)]
    assert windows([0, 5], 10, False) == [(0, 1), (5, 6)]
    # Near the last wire, rows of states whose batch is first would be short.
    assert windows([0, 7], 10, True) == [(0, 1), (7, 10)]


def test_basis_states_move_by_parities():
    """Three CNOTs in a row and a swap, as rows of parities; wire 0 is the most significant bit."""
    rows = {1: frozenset([0, 1]), 2: frozenset([0, 1, 2]), 3: frozenset([4]), 4: frozenset([3])}

    def goes_to(state: int) -> int:
        bits = [state >> (4 - wire) & 1 for wire in range(5)]
        moved = [sum(bits[other] for other in rows.get(wire, {wire})) % 2 for wire in range(5)]
        return sum(bit << (4 - wire) for wire, bit in enumerate(moved))

    assert BitMap.of_parities(rows, 5).table().tolist() == [goes_to(state) for state in range(32)]
    # Of many wires: every state is touched a few times, not once a parity (10 s at 22 wires otherwise).
    ladder = {wire: frozenset(range(wire + 1)) for wire in range(22)}
    begun = time.process_time()
    moved = BitMap.of_parities(ladder, 22).table()
    assert time.process_time() - begun < 1
    assert moved[1 << 21] == (1 << 22) - 1


def test_maps_of_bits_are_composed_and_inverted():
    """A ladder of CNOTs, then swaps; tables of the first and of the other wires make up the whole by xor."""
    n = 7
    ladder = BitMap.of_parities({wire: range(wire + 1) for wire in range(n)}, n)
    turned = BitMap.of_parities({wire: [(wire + 3) % n] for wire in range(n)}, n)
    both = turned.after(ladder)
    assert both.table().tolist() == [turned(ladder(state)) for state in range(2**n)]
    assert both.table().tolist() == turned.table()[ladder.table()].tolist()
    assert both.inverse().after(both) == both.after(both.inverse()) == BitMap.identity(n)
    halves = both.table(0, 3)[:, None] ^ both.table(3)
    assert halves.flatten().tolist() == both.table().tolist()
