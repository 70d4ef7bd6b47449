"""Angles of quantum tensor networks, as the reference code of Harvey et al. keeps them, in our layout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from zoo.errors import ConversionError

_NAMES = {
    "words": "words.weight",
    "rules": "rules.weight",
    "Us": "disentangler.weight",
    "Is": "isometry.weight",
    "class": "readout.weight",
}
_KINDS = ({"words", "rules", "class"}, {"words", "Us", "Is", "class"})


def convert_official(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Rename the arrays of the reference code, and give each its rows.

    Args:
        state: `words` (V, p), `rules` (R, p) or (p,), or `Us` and `Is` in its place, `class` (p,); in full turns. Its
            pickles hold these as arrays of NumPy or JAX; where you trust one, `numpy.savez("angles.npz", **arrays)`
            makes a file that `zoo convert` reads.

    Returns:
        The state dict of a `QTN` of "qtn14" (theirs is called A14), "qtn_iqp" (IQP) or "qtn9" (A9), and notes for
        people, a line each.

    Raises:
        ConversionError: other names, or an array that has neither one axis nor two.
    """
    if set(state) not in _KINDS:
        wanted = " or ".join(", ".join(name for name in _NAMES if name in kind) for kind in _KINDS)
        raise ConversionError(f"expected the arrays {wanted}; got {', '.join(list(state)[:10]) or 'none'}")
    made, notes = {}, []
    for name, angles in state.items():
        if angles.ndim not in (1, 2) or (name == "words" and angles.ndim != 2):
            raise ConversionError(f"{name} must be (rows, angles) or (angles,), got {tuple(angles.shape)}")
        rows = angles if angles.ndim == 2 else angles.unsqueeze(0)
        kept = _levels(len(rows)) if name in ("Us", "Is") else len(rows)
        if kept < len(rows):
            notes.append(f"{name}: {kept} of {len(rows)} rows are levels of a tree; the others were never used")
        made[_NAMES[name]] = rows[:kept].clone()
    notes.append(
        "a word that is not in the table, padding among them, was the last one there: set pad='token' for the same "
        "answers to shorter sequences"
    )
    return made, notes


def infer_variant(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Constructor options that the angles of a network of "qtn14" call for: `max_len`, `n_layers`, `qubits`.

    Of several qubits a wire only their product with the layers shows; one layer is taken.

    Raises:
        ConversionError: not of "qtn14".
    """
    tree = "isometry.weight" in state
    rules, angles = state["isometry.weight" if tree else "rules.weight"].shape
    word = state["words.weight"].shape[1]
    if angles % 8 or (word != 3 and angles != 2 * word):
        raise ConversionError(f"{word} angles a word and {angles} a box are none of qtn14")
    options: dict[str, Any] = {"n_layers": angles // 8} if word == 3 else {"qubits": word // 4}
    if rules > 1:
        options["max_len"] = 2**rules if tree else rules + 1
    return options


def _levels(rows: int) -> int:
    """Levels of a tree for which the reference code makes so many rows: 2**(levels + 1); others were cut already."""
    return rows.bit_length() - 2 if rows >= 4 and rows & (rows - 1) == 0 else rows
