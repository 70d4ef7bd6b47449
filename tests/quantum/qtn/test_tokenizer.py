"""Words of letters: their numbers, their order, and letters that are none of the alphabet."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.layers.answers import answers
from zoo.quantum import KmerTokenizer


def test_single_amino_acids_are_numbered_in_the_order_of_their_letters() -> None:
    tokenizer = KmerTokenizer()
    assert tokenizer.vocab_size == 21
    assert tokenizer.encode("ACDY") == [0, 1, 2, 19]
    assert tokenizer.encode("acdy") == [0, 1, 2, 19]
    # Selenocysteine is taken for cysteine; what stands for several amino acids, and pyrrolysine, is unknown.
    assert tokenizer.encode("UBZXJO") == [1, 20, 20, 20, 20, 20]
    assert [tokenizer.word(k) for k in (0, 19, 20)] == ["A", "Y", "unknown"]
    assert tokenizer.encode("") == []


def test_words_of_several_letters_overlap_by_the_stride() -> None:
    pairs = KmerTokenizer(2, alphabet="ACGT")
    assert pairs.encode("ACGT") == [1, 6, 11]
    assert [pairs.word(k) for k in pairs.encode("ACGT")] == ["AC", "CG", "GT"]
    assert pairs.encode("ANGT") == [16, 16, 11]
    assert KmerTokenizer(2, 2, alphabet="ACGT").encode("ACGTA") == [1, 11]
    assert pairs.encode("A") == []
    assert pairs.encode("U") == [] == pairs.encode("u")
    assert KmerTokenizer(alphabet="ACGT").encode("U") == [3]  # RNA, whose U is the T of DNA
    assert KmerTokenizer(alphabet="ACGU").encode("T") == [3]
    assert KmerTokenizer(alphabet="ACGTU").encode("TU") == [3, 4]
    assert KmerTokenizer(alphabet="ACGT", replace={}).encode("U") == [4]
    assert KmerTokenizer(alphabet="ACGT", replace={"U": "T"}).encode("U") == [3]


def test_its_arguments_make_it_again() -> None:
    made = KmerTokenizer(3, 2, alphabet="ACGT", unk=False, replace={"U": "T"})
    assert KmerTokenizer(**json.loads(json.dumps(made.to_dict()))) == made
    assert made != KmerTokenizer(3, 2, alphabet="ACGT", unk=False, replace={})
    assert made.vocab_size == 64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k must be a whole number from 1, got 0"),
        ({"stride": 0}, "stride must be a whole number from 1, got 0"),
        ({"alphabet": "AAC"}, "alphabet must be different capital letters, got 'AAC'"),
        ({"alphabet": ""}, "alphabet must be"),
        ({"alphabet": "acgt"}, "capital letters"),
        ({"alphabet": "AC", "replace": {"U": "T"}}, "replace leads to 'T'"),
    ],
)
def test_it_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KmerTokenizer(**options)


def test_letters_are_refused_where_nothing_is_unknown() -> None:
    with pytest.raises(ValueError, match="the letter 'B' at place 1 is not in the alphabet ACDEF"):
        KmerTokenizer(unk=False).encode("ABA")
    with pytest.raises(ValueError, match="numbered 0 to 20, got 21"):
        KmerTokenizer().word(21)


def test_numbers_are_no_sequence() -> None:
    case = {"KmerTokenizer().encode(3)": "TypeError: a sequence is a text of letters, got 3"}
    assert answers(case, "from zoo.quantum import KmerTokenizer") == case
