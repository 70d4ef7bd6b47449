"""Observables as a device with errors of the readout finds them.

A Z that is measured becomes (1 - p01 - p10) Z + p10 - p01, on its wire alone: a word becomes a sum of words, and
nothing of the size of all outcomes is made.
"""

import itertools
import math

from zoo.quantum.kept import Kept
from zoo.quantum.noise.readout import ReadoutError
from zoo.quantum.observables import Observable, PauliSum, Projector
from zoo.quantum.paulis import PauliWord

#: Words of one product, at most.
_MOST = 2**12
_READ = Kept(256)
#: Factors of the letters of one wire.
Letters = tuple[tuple[float, str], ...]


def read_as(observable: Observable, readout: ReadoutError) -> PauliSum:
    """The sum of Pauli words whose exact expectation is what is read of the observable, on average.

    Raises:
        ValueError: a Hermitian matrix; a product on so many wires that the sum would be too long.
    """
    return getattr(_READ, _find(observable, readout))


def _find(observable: Observable, readout: ReadoutError) -> str:
    """Find the sum unless it is kept; its name."""
    return _READ.name((observable, readout), lambda: _found(observable, readout))


# What `torch.compiler.assume_constant_result` sets; see `zoo.quantum.engine.evolve`.
_find._dynamo_marked_constant = True  # pyright: ignore[reportFunctionMemberAccess]


def _found(observable: Observable, readout: ReadoutError) -> PauliSum:
    if isinstance(observable, PauliSum):
        products = [
            (c, {wire: _letter(letter, wire, readout) for wire, letter in word.letters}) for c, word in observable.terms
        ]
    elif isinstance(observable, Projector):
        pairs = zip(observable.wires, observable.bits, strict=True)
        products = [(1.0, {wire: _bit(int(bit), wire, readout) for wire, bit in pairs})]
    else:
        raise ValueError("a Hermitian matrix cannot be read wire by wire; write it as a sum of Pauli words")
    terms: list[tuple[float, PauliWord]] = []
    for coefficient, factors in products:
        count = math.prod(map(len, factors.values()))
        if count > _MOST:
            raise ValueError(
                f"{observable} read with errors is a sum of {count} words, at most {_MOST} are computed: give shots"
            )
        for chosen in itertools.product(*factors.values()):
            word = PauliWord(tuple((wire, letter) for wire, (_, letter) in zip(factors, chosen, strict=True)))
            terms.append((coefficient * math.prod(factor for factor, _ in chosen), word))
    return PauliSum(tuple(terms))


def _letter(letter: str, wire: int, readout: ReadoutError) -> Letters:
    (_, p10), (p01, _) = readout.confusion(wire)
    turned, shift = (1 - p01 - p10, letter), p10 - p01
    return (turned, (shift, "i")) if shift else (turned,)


def _bit(bit: int, wire: int, readout: ReadoutError) -> Letters:
    """That the bit is read: its chances from 0 and from 1 as a diagonal matrix."""
    from_0, from_1 = readout.confusion(wire)[bit]
    return ((from_0 + from_1) / 2, "i"), ((from_0 - from_1) / 2, "z")
