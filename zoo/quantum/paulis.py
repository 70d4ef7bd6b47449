"""Pauli words and their real combinations, read from text such as "0.5 Z0 Z2 - 1.25 X1"."""

import itertools
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_TOKEN = re.compile(
    r"\s*(?:(?P<letter>[IXYZ])(?P<wire>\d+)?|(?P<number>(?:\d+\.?\d*|\.\d+)(?:E[+-]?\d+)?)|(?P<sign>[+-])|(?P<times>[*@]))"
)
Letters = tuple[tuple[int, str], ...]
#: Two different letters: their product without its phase, and whether the phase is i (else -i).
_PRODUCTS = {
    **{(a, b): (c, True) for a, b, c in ("xyz", "yzx", "zxy")},
    **{(b, a): (c, False) for a, b, c in ("xyz", "yzx", "zxy")},
}


@dataclass(frozen=True)
class PauliWord:
    """A product of Pauli matrices on different wires; without letters the identity.

    Args:
        letters: (wire, "x" | "y" | "z") pairs; sorted by wire, identities left out.
    """

    letters: Letters = ()

    def __post_init__(self) -> None:
        kept = sorted((wire, letter.lower()) for wire, letter in self.letters if letter.lower() != "i")
        wires = [wire for wire, _ in kept]
        if len(set(wires)) < len(wires):
            raise ValueError(f"a Pauli word has one letter a wire, got {kept}")
        if any(letter not in "xyz" for _, letter in kept) or any(wire < 0 for wire in wires):
            raise ValueError(f"a Pauli word is made of letters i, x, y, z on wires from 0, got {kept}")
        object.__setattr__(self, "letters", tuple(kept))

    @property
    def wires(self) -> tuple[int, ...]:
        return tuple(wire for wire, _ in self.letters)

    def to_dict(self) -> dict[str, str]:
        """As JSON holds it; `zoo.quantum.parse_observables` reads it."""
        return {"pauli": str(self)}

    def __str__(self) -> str:
        return " ".join(f"{letter.upper()}{wire}" for wire, letter in self.letters) or "I"


@dataclass(frozen=True)
class PauliSum:
    """A real combination of Pauli words.

    Args:
        terms: (coefficient, word) pairs; equal words are put together.
    """

    terms: tuple[tuple[float | int, PauliWord], ...]

    def __post_init__(self) -> None:
        together: dict[PauliWord, float] = {}
        for coefficient, word in self.terms:
            if not math.isfinite(coefficient):
                raise ValueError(f"a coefficient is finite, got {coefficient} {word}")
            together[word] = together.get(word, 0.0) + float(coefficient)
        object.__setattr__(self, "terms", tuple((c, word) for word, c in together.items()))

    @property
    def wires(self) -> tuple[int, ...]:
        return tuple(sorted({wire for _, word in self.terms for wire in word.wires}))

    def __add__(self, other: "PauliSum") -> "PauliSum":
        return PauliSum((*self.terms, *other.terms))

    def __mul__(self, factor: float | int) -> "PauliSum":
        return PauliSum(tuple((c * factor, word) for c, word in self.terms))

    __rmul__ = __mul__

    def __neg__(self) -> "PauliSum":
        return self * -1.0

    def __sub__(self, other: "PauliSum") -> "PauliSum":
        return self + -other

    def squared(self) -> "PauliSum":
        """The square, a combination of words again: those that anticommute cancel."""
        terms = [(sum(c * c for c, _ in self.terms), PauliWord())]
        for (first, one), (second, other) in itertools.combinations(self.terms, 2):
            sign, word = _product(one, other)
            if sign:
                terms.append((2 * sign * first * second, word))
        return PauliSum(tuple(terms))

    def to_dict(self) -> dict[str, str]:
        """As JSON holds it; `PauliSum.from_dict` reads it."""
        return {"pauli": str(self)}

    @staticmethod
    def from_dict(record: Mapping[str, str]) -> "PauliSum":
        """The sum that `to_dict` wrote."""
        return parse_pauli_sum(record["pauli"])

    def __str__(self) -> str:
        """Text that `parse_pauli_sum` reads back."""
        parts = []
        for coefficient, word in self.terms:
            sign = "-" if coefficient < 0 else "+"
            size = "" if abs(coefficient) == 1 else f"{abs(coefficient)!r} "
            parts.append(f"{sign} {size}{word}")
        text = " ".join(parts)
        return f"-{text[2:]}" if text.startswith("- ") else text.removeprefix("+ ") or "0"


def _product(one: PauliWord, other: PauliWord) -> tuple[int, PauliWord]:
    """The product of two words that commute, with its sign; 0 and no letters for two that do not."""
    left, right = dict(one.letters), dict(other.letters)
    letters = {wire: letter for wire, letter in (left | right).items() if (wire in left) != (wire in right)}
    turns = 0  # the power of i
    for wire in left.keys() & right.keys():
        if left[wire] != right[wire]:
            letters[wire], ahead = _PRODUCTS[left[wire], right[wire]]
            turns += 1 if ahead else -1
    if turns % 2:
        return 0, PauliWord()
    return 1 - turns % 4, PauliWord(tuple(letters.items()))


def parse_pauli_sum(text: str) -> PauliSum:
    """Read "0.5 Z0 Z2 - 1.25 X1 + 2"; a word alone has coefficient 1, a number alone is that times the identity.

    Factors may stand beside each other, or with "*" or "@" between them.

    Raises:
        ValueError: with the place where the text could not be read.
    """
    upper = text.upper()
    position, terms = 0, []
    factor, letters, empty = 1.0, [], True
    while position < len(upper.rstrip()):
        token = _TOKEN.match(upper, position)
        if token is None:
            raise ValueError(
                f"cannot read the observable {text!r} at {text[position:].strip()!r}; written like '0.5 Z0 Z2 - X1'"
            )
        if token["sign"]:
            if not empty:
                terms.append((factor, letters))
                factor, letters, empty = 1.0, [], True
            factor *= -1.0 if token["sign"] == "-" else 1.0
        elif token["number"]:
            factor, empty = factor * float(token["number"]), False
        elif token["letter"]:
            if token["wire"] is None and token["letter"] != "I":
                raise ValueError(f"the letter {token['letter']} in {text!r} has no wire; written like 'Z0 X1'")
            letters.append((int(token["wire"] or 0), token["letter"]))
            empty = False
        position = token.end()
    if empty:
        raise ValueError(f"the observable {text!r} ends before a term is complete")
    terms.append((factor, letters))
    return PauliSum(tuple((factor, PauliWord(tuple(letters))) for factor, letters in terms))


def commuting_groups(words: Iterable[Letters]) -> list[tuple[dict[int, str], list[Letters]]]:
    """Groups of words that one measurement of every wire gives together.

    Each word goes into the first group whose letters it shares wire by wire.

    Args:
        words: the letters of each.

    Returns:
        Pairs of a basis (wire -> letter) and the words of that group, without the identity.
    """
    groups: list[tuple[dict[int, str], list[Letters]]] = []
    for word in dict.fromkeys(words):
        if not word:
            continue
        for basis, members in groups:
            if all(basis.get(wire, letter) == letter for wire, letter in word):
                basis.update(word)
                members.append(word)
                break
        else:
            groups.append((dict(word), [word]))
    return groups
