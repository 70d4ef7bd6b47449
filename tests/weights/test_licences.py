"""Licence identifiers: the Hub's own, and near ones for the rest."""

import pytest

from zoo.weights.licences import check_licence


@pytest.mark.parametrize("known", ["mit", "apache-2.0", "cc-by-nc-sa-4.0", "other", "unknown", "openrail++", " mit "])
def test_the_hub_s_identifiers_pass(known):
    assert check_licence(known) == known.strip()


@pytest.mark.parametrize(
    ("given", "near"),
    [
        ("mitt", "mit"),
        ("MIT", "mit"),
        ("apache 2", "apache-2.0"),
        ("Apache-2", "apache-2.0"),
        ("CC BY 4.0", "cc-by-4.0"),
    ],
)
def test_another_is_refused_with_near_ones(given, near):
    with pytest.raises(ValueError, match=rf"^the Hub knows no licence '{given}'; did you mean '{near}'.*give 'other'$"):
        check_licence(given)


def test_one_like_no_other_is_told_what_to_give_instead():
    with pytest.raises(ValueError, match="give 'other'"):
        check_licence("our house rules")
    with pytest.raises(TypeError, match=r"'apache-2\.0', got 3"):
        check_licence(3)  # type: ignore[arg-type]
