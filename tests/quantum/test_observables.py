"""Reading and writing observables."""

from __future__ import annotations

import json

import pytest
import torch

from tests.quantum.dense import observable_matrix
from zoo.quantum.observables import Hermitian, Projector, is_single, parse_observables, squared
from zoo.quantum.paulis import PauliSum, PauliWord, commuting_groups, parse_pauli_sum


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("Z0", {((0, "z"),): 1}),
        ("0.5 Z0 Z2 - 1.25 X1", {((0, "z"), (2, "z")): 0.5, ((1, "x"),): -1.25}),
        ("-x1y0+2*z3", {((0, "y"), (1, "x")): -1, ((3, "z"),): 2}),
        ("1e-3 Z10 + .5", {((10, "z"),): 1e-3, (): 0.5}),
        ("Z0 + Z0 - 3 I", {((0, "z"),): 2, (): -3}),
        ("2 I0 Z1", {((1, "z"),): 2}),
        ("0.5 * Z0 @ X1 - Y2", {((0, "z"), (1, "x")): 0.5, ((2, "y"),): -1}),
    ],
)
def test_sums(text, terms):
    found = parse_pauli_sum(text)
    assert {word.letters: c for c, word in found.terms} == terms
    assert parse_pauli_sum(str(found)) == found


def test_arithmetic():
    total = parse_pauli_sum("Z0 - 2 X1") * 0.5 + 3 * parse_pauli_sum("X1") - parse_pauli_sum("Y2")
    assert total == parse_pauli_sum("0.5 Z0 + 2 X1 - Y2")
    assert PauliWord(((2, "Z"), (1, "i"), (0, "x"))) == PauliWord(((0, "x"), (2, "z")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.5 Z", "the letter Z in '0.5 Z' has no wire"),
        ("0.5 Q0", "cannot read the observable '0.5 Q0' at 'Q0'"),
        ("Z0 -", "ends before a term"),
        ("", "ends before a term"),
        ("Z0 X0", "one letter a wire"),
        ("Z3", "the observable Z3 is on wire 3: the wires are 0 to 2"),
        ("|012>", "cannot read the projector"),
        ("|01> 0", "a bit a wire"),
        ("|01>", "a bit a wire"),
        ("|00> 1, 1", "names a wire twice"),
    ],
)
def test_refused(text, message):
    with pytest.raises(ValueError, match=message.replace("|", "\\|")):
        parse_observables(text, 3)


def test_what_stands_for_what():
    assert [str(o) for o in parse_observables("x", 2)] == ["X0", "X1"]
    assert parse_observables("|01> 2, 0", 3) == (Projector("01", (2, 0)),)
    assert parse_observables("|010>", 3) == (Projector("010", (0, 1, 2)),)
    assert parse_observables(PauliWord(((1, "y"),)), 3) == (PauliSum(((1.0, PauliWord(((1, "y"),))),)),)
    assert [is_single(o) for o in ("z", "Z0", ["Z0"], "|0>")] == [False, True, False, True]
    with pytest.raises(ValueError, match="at least one observable"):
        parse_observables([], 3)


def test_groups():
    words = [word.letters for _, word in parse_pauli_sum("Z0 + X0 + Z0 Y1 + X0 Y1 + Y0 + 3").terms]
    assert [len(members) for _, members in commuting_groups(words)] == [2, 2, 1]


def test_squares_are_sums_of_words():
    """By the matrices: words that anticommute cancel, products of letters have their sign."""
    for text in ("Z0", "X0 + Y0", "X0 Y1 - 2 Z0 Z1 + 0.5 Y0 X1 + 3 X0", "Z0 + 1", "X0 Y1 Z2 + Y0 Z1 X2 - Z0 X1 Y2"):
        observable = parse_pauli_sum(text)
        matrix = observable_matrix(observable, 3)
        torch.testing.assert_close(observable_matrix(squared(observable), 3), matrix @ matrix)
    matrix = Hermitian(torch.tensor([[0.5, 1j], [-1j, 2]]), [1])
    assert squared(matrix) is squared(matrix)
    torch.testing.assert_close(squared(matrix).matrix, matrix.matrix @ matrix.matrix)


@pytest.mark.parametrize(
    "given",
    [
        parse_pauli_sum("0.1 Z0 X1 - 1.25 Y1 + 2"),
        PauliSum(()),
        PauliWord(((1, "y"),)),
        Projector("01", (1, 0)),
        Hermitian([[0.5, 1j], [-1j, 2.0]], 1),
    ],
)
def test_observables_go_through_json(given):
    (again,) = parse_observables(json.loads(json.dumps(given.to_dict())), 2)
    torch.testing.assert_close(observable_matrix(again, 2), observable_matrix(parse_observables(given, 2)[0], 2))


def test_a_record_of_something_else():
    with pytest.raises(ValueError, match="written with 'pauli', with 'bits' and 'wires', or with 'matrix' and 'wires'"):
        parse_observables([{"word": "Z0"}], 2)


def test_a_matrix_is_kept_on_the_cpu():
    with torch.device("meta"):
        matrix = Hermitian([[1, 0], [0, 2]], 0).matrix
    assert matrix.device.type == "cpu"
