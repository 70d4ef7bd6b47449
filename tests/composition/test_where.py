"""`where`: its forms, and which places they mean."""

from __future__ import annotations

import pytest

from zoo.composition.where import canonical_where, is_pattern, select
from zoo.errors import UnsupportedSurgery

BLOCKS = [f"blocks.{i}.mlp" for i in range(12)]


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ("all", "all"),
        (" all ", "all"),
        ("first:3", "first:3"),
        ("last:04", "last:4"),
        (2, [2]),
        (-1, [-1]),
        ((0, -1), [0, -1]),
        (range(2), [0, 1]),
        ("blocks.[0-5].*", "blocks.[0-5].*"),
        ("layer1", "layer1"),
    ],
)
def test_one_form_for_each_meaning(given, canonical):
    assert canonical_where(given) == canonical
    assert canonical_where(canonical) == canonical


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (True, TypeError, "got True"),
        (1.5, TypeError, "got 1.5"),
        (b"all", TypeError, "got b'all'"),
        ({"first": 2}, TypeError, "'first:k'"),
        ("", ValueError, "got ''"),
        ([], ValueError, r"got \[\]"),
        ([0, "1"], ValueError, r"got \[0, '1'\]"),
        ([True], ValueError, r"got \[True\]"),
        ("first:0", ValueError, "k a whole number from 1; got 'first:0'"),
        ("last:", ValueError, "k a whole number from 1"),
        ("last:-2", ValueError, "k a whole number from 1"),
        ("first:x", ValueError, "k a whole number from 1"),
        ("frist:2", ValueError, "'first:k'"),
    ],
)
def test_no_form_of_it_is_refused_with_those_there_are(given, error, message):
    with pytest.raises(error, match=message):
        canonical_where(given)


@pytest.mark.parametrize(
    ("where", "indices"),
    [
        ("all", range(12)),
        ("first:2", [0, 1]),
        ("first:12", range(12)),
        ("last:3", [9, 10, 11]),
        ([3], [3]),
        ([-1, 0], [0, 11]),
        ([-12, 0], [0]),
        ("blocks.[0-2].*", [0, 1, 2]),
        ("*1.mlp", [1, 11]),
        ("blocks.7.mlp", [7]),
    ],
)
def test_the_places_that_are_meant_in_the_order_of_the_model(where, indices):
    assert select(BLOCKS, where, "mlp of a vit") == [BLOCKS[i] for i in indices]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ([12], r"where=\[12\] goes beyond the places for mlp of a vit: there are 12, 'blocks.0.mlp'.*'blocks.11.mlp'"),
        ([0, -13], r"where=\[0, -13\] goes beyond"),
        ("last:13", "asks for 13 places for mlp of a vit: there are 12"),
        ("block.0.mlp", r"selects nothing.*did you mean 'blocks.0.mlp'"),
        ("BLOCKS.*", "selects nothing"),
    ],
)
def test_no_place_is_an_error_that_names_the_places(where, message):
    with pytest.raises(UnsupportedSurgery, match=message):
        select(BLOCKS, where, "mlp of a vit")


def test_patterns_are_told_from_the_other_forms():
    assert [is_pattern(w) for w in ("all", "first:2", "last:2", [1], "blocks.*", "layer1")] == [False] * 4 + [True] * 2
