"""Sentences whose post-selections are rare, and what they refuse."""

from __future__ import annotations

import pytest
import torch

from tests.layers.answers import answers
from zoo.errors import PostSelectionError
from zoo.quantum import cups, stairs


def test_a_sentence_of_three_hundred_words_is_finite_where_its_amplitudes_are_not() -> None:
    words = [f"w{k % 7}" for k in range(300)]
    for sentence in (stairs(words), cups(words)):
        torch.manual_seed(0)
        values = torch.rand(2, len(sentence.symbols))
        values[:, :] = values[:1]
        found = sentence.probabilities(values)
        exact = sentence.amplitudes(values.double()).abs().square()
        torch.testing.assert_close(found.double(), exact / exact.sum(-1, keepdim=True), rtol=0, atol=1e-3)
    assert not bool(stairs(words).amplitudes(torch.rand(len(stairs(words).symbols))).any())  # nothing of them is left


def test_a_sentence_that_is_never_post_selected_is_named() -> None:
    """The second word is in 1, and a box without angles keeps it there, where 0 is wanted."""
    sentence = stairs(["A", "B"], ansatz="qtn14")
    values = torch.zeros(2, len(sentence.symbols), dtype=torch.float64)
    assert torch.equal(sentence.probabilities(values)[0], torch.tensor([1.0, 0.0], dtype=torch.float64))
    values[1, sentence.symbols.index("B__s_0")] = 0.5
    with pytest.raises(PostSelectionError, match=r"sample 1 is never post-selected.*below 3e-30.*; other values help"):
        sentence.probabilities(values)
    values[1, sentence.symbols.index("B__s_0")] += 2.0**-30  # rare, and yet no rounding
    assert torch.isfinite(sentence.probabilities(values)).all()


#: expression -> its answer's beginning.
REFUSED = {
    "stairs([])": "ValueError: a sentence has at least one word",
    "s.probabilities(torch.zeros(3))": "ValueError: the sentence has 14 symbols, got values (3,)",
    "s.amplitudes(torch.tensor(1.0))": "ValueError: the sentence has 14 symbols, got values ()",
    "s.amplitudes({'A__s_0': 1.0})": "TypeError: values are a tensor of floating-point numbers, one for each of .symb",
    "s.amplitudes(torch.zeros(14).long())": "TypeError: values are a tensor of floating-point numbers, one for ",
    "s.amplitudes(torch.full((2, 14), float('inf')))": "ValueError: values must be finite, got inf at (0, 0)",
    "stairs(['A'], ansatz='qtn15')": "ValueError: unknown ansatz 'qtn15'; did you mean",
}


def test_what_sentences_refuse() -> None:
    preparation = "import torch\nfrom zoo.quantum import stairs\ns = stairs(['A', 'B'])"
    for expression, answer in answers(REFUSED, preparation).items():
        assert answer.startswith(REFUSED[expression]), answer
