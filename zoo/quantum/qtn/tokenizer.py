"""Sequences of letters as numbers of words: every k letters, or fewer apart, are a word."""

from collections.abc import Mapping
from typing import Any

AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"


def _usual_replacements(alphabet: str) -> dict[str, str]:
    if alphabet == AMINO_ACIDS:
        return {"U": "C"}  # selenocysteine is a cysteine but for one atom
    if set("ACG") <= set(alphabet) <= set("ACGTUN"):  # one nucleotide, in RNA and in DNA
        return {a: b for a, b in ("UT", "TU") if a not in alphabet and b in alphabet}
    return {}


class KmerTokenizer:
    """Words of k letters, one every `stride` letters; letters behind the last whole word are left out.

    Words are numbered in the order of the alphabet, the last letter fastest; behind them comes "unknown", for words
    with other letters: of amino acids B, Z, X, J and O. Small letters are capitals. Of amino acids U, selenocysteine,
    is taken for C; of nucleotides U for T where the alphabet has T alone, and T for U where it has U alone.

    Args:
        k: letters of a word.
        stride: letters from one word to the next.
        alphabet: capital letters.
        unk: whether there is the word "unknown"; without it other letters are refused.
        replace: letters that are taken for others; None for those above, {} for none.

    Raises:
        ValueError: a size below 1, an alphabet with a letter twice; from `encode`, letters that are refused.
    """

    def __init__(
        self,
        k: int = 1,
        stride: int = 1,
        *,
        alphabet: str = AMINO_ACIDS,
        unk: bool = True,
        replace: Mapping[str, str] | None = None,
    ):
        for name, value in (("k", k), ("stride", stride)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number from 1, got {value!r}")
        if len(set(alphabet)) < max(len(alphabet), 1) or alphabet != alphabet.upper():
            raise ValueError(f"alphabet must be different capital letters, got {alphabet!r}")
        self.k, self.stride, self.alphabet, self.unk = k, stride, alphabet, unk
        self.replace = dict(_usual_replacements(alphabet) if replace is None else replace)
        wrong = next((letter for letter in self.replace.values() if letter not in alphabet), None)
        if wrong is not None:
            raise ValueError(f"replace leads to {wrong!r}, which is not in the alphabet {alphabet}")
        self._numbers = {letter: k for k, letter in enumerate(alphabet)}
        self._numbers |= {letter: self._numbers[other] for letter, other in self.replace.items()}

    @property
    def vocab_size(self) -> int:
        """How many words there are, "unknown" included."""
        return len(self.alphabet) ** self.k + self.unk

    def encode(self, text: str) -> list[int]:
        """The numbers of the words of a sequence; none if it is shorter than k letters."""
        if not isinstance(text, str):
            raise TypeError(f"a sequence is a text of letters, got {text!r}")
        letters, base = text.upper(), len(self.alphabet)
        numbers = [self._numbers.get(letter, -1) for letter in letters]
        words = []
        for start in range(0, len(letters) - self.k + 1, self.stride):
            word = 0
            for place in range(start, start + self.k):
                if numbers[place] < 0:
                    if not self.unk:
                        raise ValueError(
                            f"the letter {letters[place]!r} at place {place} is not in the alphabet {self.alphabet}; "
                            "unk=True takes it for the word 'unknown'"
                        )
                    word = base**self.k
                    break
                word = word * base + numbers[place]
            words.append(word)
        return words

    def word(self, number: int) -> str:
        """The letters of a word; "unknown" for the one behind them.

        Raises:
            ValueError: there is no such word.
        """
        base = len(self.alphabet)
        if not 0 <= number < self.vocab_size:
            raise ValueError(f"words are numbered 0 to {self.vocab_size - 1}, got {number}")
        if number == base**self.k:
            return "unknown"
        return "".join(self.alphabet[number // base**place % base] for place in reversed(range(self.k)))

    def to_dict(self) -> dict[str, Any]:
        """The arguments, for a model's configuration: `KmerTokenizer(**settings)` is the same one."""
        return {
            "k": self.k,
            "stride": self.stride,
            "alphabet": self.alphabet,
            "unk": self.unk,
            "replace": dict(self.replace),
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KmerTokenizer) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.k, self.stride, self.alphabet, self.unk))

    def __repr__(self) -> str:
        return f"KmerTokenizer(k={self.k}, stride={self.stride}, alphabet={self.alphabet!r}, unk={self.unk})"
