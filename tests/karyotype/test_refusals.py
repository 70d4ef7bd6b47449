"""What dispatch, the short form and templates refuse, and what they say."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from tests.karyotype.cases import noisy
from zoo.karyotype import HUMAN, Template, dispatch, dispatch_cases, iscn

_GOOD = noisy(0, 1.5, 6)[1]


def _with(row, value):
    table = _GOOD.copy()
    table[row] = value
    return table


@pytest.mark.parametrize(
    ("log_probs", "message"),
    [
        (_GOOD[0], r"log_probs must be \[N, 24\], a row per chromosome, got \[24\]"),
        (_GOOD[:, :23], r"must be \[N, 24\], a row per chromosome, got \[46, 23\]"),
        (_GOOD[None], r"got \[1, 46, 24\]"),
        (_GOOD[:0], "log_probs has no rows"),
        (np.tile(_GOOD, (3, 1))[:95], r"95 chromosomes are more than there is room for: 46, and max_extra=2 .* 94"),
        (_with(5, np.nan), "row 5 of log_probs has NaN or inf"),
        (_with((slice(3, 5), 7), np.inf), "row 3 of log_probs has NaN or inf \\(2 of 46"),
        (_with((4, 2), np.nan), "row 4 of log_probs has NaN or inf \\(1 of 46"),
        (_with(9, -np.inf), "row 9 of log_probs has only -inf"),
        (np.exp(_GOOD), "these are probabilities: take their logarithm"),
        (_GOOD + 9, "must not be above 0, got .*; take log_softmax of logits"),
        (_with((0, 0), 2e-6), "must not be above 0"),
    ],
)
def test_log_probs(log_probs, message):
    with pytest.raises(ValueError, match=message):
        dispatch(log_probs)
    with pytest.raises(ValueError, match=message):
        dispatch(torch.tensor(log_probs))
    with pytest.raises(ValueError, match=f"case 1: .*{message}"):
        dispatch_cases([_GOOD, log_probs])


def test_rounding_above_zero_is_no_probability():
    assert dispatch(_with((0, 0), 9e-7)).sex in ("XX", "XY")


@pytest.mark.parametrize("log_probs", ["abc", [["a"] * 24], np.ones((2, 24), bool), [[0.0] * 24, [0.0]]])
def test_no_numbers(log_probs):
    with pytest.raises(TypeError, match="log_probs must be an array of numbers"):
        dispatch(log_probs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sex": "xx"}, "unknown sex 'xx'; did you mean 'XX'.* Known: auto, XX, XY"),
        ({"sex": "female"}, r"unknown sex 'female'\. Known: auto, XX, XY"),
        ({"sex": None}, "unknown sex None"),
        ({"method": "optimum"}, "unknown method 'optimum'; did you mean 'optimal'\\? Known: optimal, greedy"),
        ({"gain": -1}, "gain must be finite and at least 0"),
        ({"loss": -0.5}, "loss must be finite and at least 0"),
        ({"loss": np.nan}, "loss must be finite"),
        ({"gain": np.inf}, "gain must be finite and at least 0 .*; strict=True forbids changes"),
        ({"gain": [1.0, 2.0]}, r"gain must be a number or one per class, \[24\], got \[2\]"),
        ({"max_extra": -1}, "max_extra must be an integer of at least 0"),
        ({"max_extra": True}, "max_extra must be an integer of at least 0"),
    ],
)
def test_options(options, message):
    with pytest.raises(ValueError, match=message):
        dispatch(_GOOD, **options)
    with pytest.raises(ValueError, match=message):
        dispatch_cases([_GOOD], **options)


@pytest.mark.parametrize(
    "options", [{"max_extra": 1.5}, {"gain": "much"}, {"template": 24}, {"template": {"XX": (2.0, 2, 0)}}]
)
def test_types_of_options(options):
    with pytest.raises(TypeError):
        dispatch(_GOOD, **options)


@pytest.mark.parametrize("count", [45, 47])
def test_strict_needs_as_many(count):
    with pytest.raises(ValueError, match=f"strict=True forces 46 chromosomes, and the case has {count}"):
        dispatch(np.tile(_GOOD, (2, 1))[:count], strict=True)
    with pytest.raises(ValueError, match="case 1: strict=True forces 46 chromosomes"):
        dispatch_cases([_GOOD, np.tile(_GOOD, (2, 1))[:count]], strict=True)


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (_GOOD, {}, "a list of arrays; or give sizes or case_ids"),
        (_GOOD, {"sizes": [46], "case_ids": [0] * 46}, "not both"),
        (_GOOD, {"sizes": [46, 0]}, "sizes must be at least 1 and sum to 46"),
        (_GOOD, {"sizes": [40]}, "sizes must be at least 1 and sum to 46"),
        (_GOOD, {"case_ids": [0] * 45}, r"case_ids must be \[46\], got \[45\]"),
        ([_GOOD], {"sex": ["XX", "XY"]}, "sex must be one for all, or one per case, got 2 for 1"),
    ],
)
def test_cases(given, options, message):
    with pytest.raises(ValueError, match=message):
        dispatch_cases(given, **options)


def test_errors_name_the_case():
    """By its id where it has one, else by its number."""
    both = np.concatenate([_GOOD, _GOOD[:45]])
    for given, name in (({"sizes": [46, 45]}, "1"), ({"case_ids": [7] * 46 + [9] * 45}, "9")):
        with pytest.raises(ValueError, match=f"^case {name}: strict=True forces 46 chromosomes, and the case has 45"):
            dispatch_cases(both, strict=True, **given)
    with pytest.raises(ValueError, match=r"^case B/2: strict=True"):
        dispatch_cases(both, strict=True, case_ids=["B/1"] * 46 + ["B/2"] * 45)


def test_ids_are_integers_or_texts():
    for wrong in (np.zeros(46), [None] * 46):
        with pytest.raises(TypeError, match="case_ids must be integers or texts"):
            dispatch_cases(_GOOD, case_ids=wrong)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (_GOOD - 4, r"row 0 of log_probs sum to 0.0183, not 1 \(46 of 46 rows like that\)"),
        (_with(5, -0.2), r"row 5 of log_probs sum to 19.6, not 1 \(1 of 46"),
        (_with((3, 7), -1e-6), "row 3 of log_probs sum to"),
    ],
)
def test_sums_that_are_not_1_are_told(table, message):
    """Once, of the case; types are the same, for what a row has in common decides on nothing."""
    with pytest.warns(UserWarning, match=message):
        found = dispatch(table)
    exact = table - np.log(np.exp(table).sum(1, keepdims=True))
    np.testing.assert_array_equal(found.types, dispatch(exact).types)
    with pytest.warns(UserWarning, match=f"^case C: the probabilities of {message}") as told:
        dispatch_cases(np.concatenate([table, table]), case_ids=["C"] * 46 + ["D"] * 46)
    assert len(told) == 1


def test_sums_that_may_be_less_than_1():
    """Types that a chromosome cannot be were taken out; half precision rounds."""
    for never in (-np.inf, -1e9):
        dispatch(_with((slice(0, 46), slice(0, 4)), never))
    dispatch(_GOOD.astype(np.float16).clip(max=0))
    dispatch(torch.tensor(_GOOD).bfloat16())


@pytest.mark.parametrize(
    ("copies", "sex", "message"),
    [
        ([2] * 23, "XX", r"copies must be \[24\], one count per type, got \[23\]"),
        ([2.5] * 24, "XX", "copies must be integers of at least 0"),
        ([-1] * 24, "XX", "copies must be integers of at least 0"),
        ([2] * 24, "xy", "unknown sex 'xy'; did you mean 'XY'"),
    ],
)
def test_iscn(copies, sex, message):
    with pytest.raises(ValueError, match=message):
        iscn(copies, sex)


def test_iscn_without_sex_chromosomes():
    copies = np.array(HUMAN.of("XY"))
    copies[22:] = 0
    assert iscn(copies, "XY") == "44,-X,-Y"
    assert iscn(torch.tensor(HUMAN.of("XY")), "XX") == "46,XY"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((("1", "1", "X", "Y"), {"XX": (2, 2, 2, 0)}), "names that differ"),
        ((("1", "2"), {"XX": (2, 2)}), r"sex chromosomes \['X', 'Y'\] are not among the types"),
        ((("1", "X", "Y"), {}), "copies of at least one sex"),
        ((("1", "X", "Y"), {"XX": (2, 2)}), "template 'XX' has the copies of 2 types; there are 3"),
        ((("1", "X", "Y"), {"XX": (2, -2, 0)}), "must be an integer of at least 0"),
        ((("1", "X", "Y"), {"XX": (0, 0, 0)}), "has no chromosome"),
    ],
)
def test_templates(given, message):
    with pytest.raises(ValueError, match=message):
        Template(*given)


def test_numbers_of_autosomes():
    with pytest.raises(ValueError, match="autosomes must be at least 1, got 0; 22 for a human"):
        Template.diploid(0)
    with pytest.raises(TypeError, match=r"autosomes must be an integer, got 2.5"):
        Template.diploid(2.5)  # pyright: ignore[reportArgumentType]


def test_without_scipy():
    code = (
        "import sys; sys.modules['scipy'] = None; sys.modules['scipy.optimize'] = None\n"
        "import numpy as np, zoo\n"
        "table = np.log(np.full((46, 24), 1 / 24))\n"
        "assert zoo.karyotype.dispatch(table, method='greedy').karyotype.startswith('46')\n"
        "try: zoo.karyotype.dispatch(table)\n"
        "except zoo.errors.MissingExtraError as error: print(error)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (
        "zoo.karyotype.dispatch needs the package 'scipy'; install it with: pip install 'zoo-layers[karyotype]'"
    )
