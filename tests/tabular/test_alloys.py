"""Descriptors of alloys: known values, their limits, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from zoo.tabular.alloys import ELEMENTS, GAS_CONSTANT, alloy_descriptors


def test_equal_parts_of_five_elements():
    found = alloy_descriptors(["CoCrFeMnNi"])
    assert found["vec"][0] == pytest.approx(8.0)  # (9 + 6 + 8 + 7 + 10) / 5
    assert found["mixing_entropy"][0] == pytest.approx(GAS_CONSTANT * math.log(5))
    radii = np.array([125, 128, 126, 127, 124])
    assert found["delta"][0] == pytest.approx(100 * radii.std() / radii.mean())
    assert found["delta_electronegativity"][0] == pytest.approx(np.std([1.88, 1.66, 1.83, 1.55, 1.91]))


def test_amounts():
    """Parts by number; what an element is given twice adds up; nothing of an element is as if it were not there."""
    found = alloy_descriptors(["Al0.5CoNi", {"Ni": 40, "Co": 40, "Al": 20, "W": 0.0}, "Al.25CoNiAl.25"])
    assert found["vec"][0] == pytest.approx((0.5 * 3 + 9 + 10) / 2.5)
    for column in found.values():
        np.testing.assert_allclose(column, column[0])


@pytest.mark.parametrize("symbol", ELEMENTS)
def test_a_pure_element_mixes_nothing(symbol):
    found = alloy_descriptors([symbol])
    assert found.pop("vec")[0] == ELEMENTS[symbol].valence
    assert all(column[0] == pytest.approx(0, abs=1e-12) for column in found.values())
    assert not np.signbit(found["mixing_entropy"][0])


def test_a_carbide():
    """Electrons of the p block are those of the outer shell: eight of TiC are shared by two atoms."""
    found = alloy_descriptors(["TiC", "TiN", "TiB2"])
    np.testing.assert_allclose(found["vec"], [4, 4.5, 10 / 3])
    assert found["delta_electronegativity"][0] == pytest.approx((2.55 - 1.54) / 2)


def test_what_is_no_list_of_alloys():
    with pytest.raises(TypeError, match=r"a list of formulas.*\['CoCrFe'\] makes a list"):
        alloy_descriptors("CoCrFe")
    with pytest.raises(TypeError, match=r"a single one: \[\{'Co': 1.0\}\]"):
        alloy_descriptors({"Co": 1.0})
    with pytest.raises(TypeError, match=r"a formula or a mapping .* got None"):
        alloy_descriptors([None])


def test_no_alloys():
    assert {name: len(column) for name, column in alloy_descriptors([]).items()}["delta"] == 0


@pytest.mark.parametrize(
    ("alloy", "message"),
    [
        ("Unobtainium", "'Unobtainium'"),
        ("CoCr-Fe", "element symbols with amounts, .* got 'CoCr-Fe'"),
        ("", "got ''"),
        ("CoXe2", "no constants of the element 'Xe' in 'CoXe2'; .*Li, Be"),
        ({"Co": -1.0, "Ni": 2.0}, "at least 0 and one above it"),
        ({"Co": 0.0}, "at least 0 and one above it"),
        ({"Co": float("nan")}, "must be finite"),
    ],
)
def test_refusals(alloy, message):
    with pytest.raises(ValueError, match=message):
        alloy_descriptors([alloy])
