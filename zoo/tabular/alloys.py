"""Descriptors of alloys that follow from the composition and constants of the elements."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from zoo.naming import did_you_mean

GAS_CONSTANT = 8.314462618  # J / (mol K)


class Element(NamedTuple):
    """Metallic radius at twelve neighbours in pm, valence electrons with those of the d shell, electronegativity."""

    radius: float
    valence: int
    electronegativity: float


#: Radii and electronegativities (Pauling's) as the package mendeleev 1.3 gives them; electrons by the group. It has no
#: such radius of O and of most lanthanides.
ELEMENTS = {
    "Li": Element(155, 1, 0.98),
    "Be": Element(112, 2, 1.57),
    "B": Element(98, 3, 2.04),
    "C": Element(86, 4, 2.55),
    "N": Element(53, 5, 3.04),
    "Mg": Element(160, 2, 1.31),
    "Al": Element(143, 3, 1.61),
    "Si": Element(138, 4, 1.90),
    "P": Element(128, 5, 2.19),
    "S": Element(127, 6, 2.58),
    "Ca": Element(197, 2, 1.00),
    "Sc": Element(162, 3, 1.36),
    "Ti": Element(147, 4, 1.54),
    "V": Element(134, 5, 1.63),
    "Cr": Element(128, 6, 1.66),
    "Mn": Element(127, 7, 1.55),
    "Fe": Element(126, 8, 1.83),
    "Co": Element(125, 9, 1.88),
    "Ni": Element(124, 10, 1.91),
    "Cu": Element(128, 11, 1.90),
    "Zn": Element(134, 12, 1.65),
    "Ga": Element(140, 3, 1.81),
    "Ge": Element(140, 4, 2.01),
    "Y": Element(180, 3, 1.22),
    "Zr": Element(160, 4, 1.33),
    "Nb": Element(146, 5, 1.60),
    "Mo": Element(139, 6, 2.16),
    "Ru": Element(134, 8, 2.20),
    "Rh": Element(134, 9, 2.28),
    "Pd": Element(137, 10, 2.20),
    "Ag": Element(144, 11, 1.93),
    "In": Element(158, 3, 1.78),
    "Sn": Element(163, 4, 1.96),
    "Sb": Element(166, 5, 2.05),
    "La": Element(187, 3, 1.10),
    "Hf": Element(159, 4, 1.30),
    "Ta": Element(146, 5, 1.50),
    "W": Element(139, 6, 1.70),
    "Re": Element(137, 7, 1.90),
    "Os": Element(135, 8, 2.20),
    "Ir": Element(136, 9, 2.20),
    "Pt": Element(139, 10, 2.20),
    "Au": Element(144, 11, 2.40),
    "Pb": Element(170, 4, 1.80),
    "Bi": Element(178, 5, 1.90),
}
_PART = re.compile(r"([A-Z][a-z]?)(\d+\.?\d*|\.\d+)?")


def alloy_descriptors(alloys: Iterable[str | Mapping[str, float]]) -> dict[str, np.ndarray]:
    """Four numbers for every alloy, with the atomic fractions c_i of its elements.

    | column | formula | unit |
    |---|---|---|
    | `vec` | sum c_i VEC_i, the valence electron concentration | electrons an atom |
    | `delta` | 100 sqrt(sum c_i (1 - r_i / r)²), r = sum c_i r_i, the mismatch of atomic radii | % |
    | `mixing_entropy` | -R sum c_i ln c_i, of an ideal solution | J / (mol K) |
    | `delta_electronegativity` | sqrt(sum c_i (x_i - x)²), x = sum c_i x_i | Pauling's |

    The enthalpy of mixing is not among them: it needs a table of pairs.

    Args:
        alloys: formulas such as "Al0.5CoCrFeNi", or mappings of elements to amounts; amounts need not sum to 1.

    Returns:
        Columns, for `pandas.DataFrame(...)`.

    Raises:
        TypeError: one formula in the place of several, or neither formula nor mapping among them.
        ValueError: what is no formula, an element that is not in `ELEMENTS`, an amount below 0 or none above it.

    `ELEMENTS` has the metals of common alloys, and Li, Be, B, C, N, Mg, Si, P and S; not O and no lanthanide but La. A
    radius at twelve neighbours is little more than a name for B, C and N, which sit in gaps between metals: take the
    `delta` of carbides, borides and nitrides over their metals alone.

    The radii are textbook values at twelve neighbours. Work on high-entropy alloys often takes other ones, and then has
    another `delta`.
    """
    if isinstance(alloys, str | Mapping):
        raise TypeError(f"alloys must be a list of formulas or mappings, got a single one: [{alloys!r}] makes a list")
    rows = []
    for alloy in alloys:
        if not isinstance(alloy, str | Mapping):
            raise TypeError(f"an alloy must be a formula or a mapping of elements to amounts, got {alloy!r}")
        amounts = _amounts(alloy) if isinstance(alloy, str) else dict(alloy)
        unknown = next((symbol for symbol in amounts if symbol not in ELEMENTS), None)
        if unknown is not None:
            known = did_you_mean(unknown, ELEMENTS) or f"; there are {', '.join(ELEMENTS)}"
            raise ValueError(f"no constants of the element {unknown!r} in {alloy!r}{known}")
        values = np.array(list(amounts.values()), dtype=float)
        if not np.isfinite(values).all() or (values < 0).any() or not (values > 0).any():
            raise ValueError(f"amounts must be finite, at least 0 and one above it, got {alloy!r}")
        rows.append(_described(values / values.sum(), [ELEMENTS[symbol] for symbol in amounts]))
    columns = ("vec", "delta", "mixing_entropy", "delta_electronegativity")
    return dict(zip(columns, np.array(rows).reshape(-1, 4).T, strict=True))


def _described(fractions: np.ndarray, elements: list[Element]) -> tuple[float, ...]:
    radii, valences, electronegativities = np.array(elements, dtype=float).T
    present = fractions[fractions > 0]
    mismatch = np.sqrt(fractions @ (1 - radii / (fractions @ radii)) ** 2)
    spread = np.sqrt(fractions @ (electronegativities - fractions @ electronegativities) ** 2)
    entropy = GAS_CONSTANT * float(present @ -np.log(present)) + 0.0  # a pure element has 0.0, not -0.0
    return fractions @ valences, 100 * mismatch, entropy, spread


def _amounts(formula: str) -> dict[str, float]:
    if not formula or _PART.sub("", formula):
        raise ValueError(f"a formula must be element symbols with amounts, such as 'Al0.5CoCrFeNi', got {formula!r}")
    amounts: dict[str, float] = {}
    for symbol, amount in _PART.findall(formula):
        amounts[symbol] = amounts.get(symbol, 0.0) + (float(amount) if amount else 1.0)
    return amounts
