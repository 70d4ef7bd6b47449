"""Numbers as users give them: arrays, lists, or tensors on any device."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray


def as_array(value: Any, name: str) -> NDArray[np.float64]:
    """`value` as float64 in main memory.

    Raises:
        TypeError: it is no array of numbers.
    """
    if hasattr(value, "detach"):  # a tensor; half precision has no NumPy type, so that torch converts it
        value = value.detach().double().cpu().numpy()
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise TypeError(f"{name} must be an array of numbers: {error}") from None
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be an array of numbers, got {array.dtype} of shape {list(array.shape)}")
    return array.astype(np.float64, copy=False)


def as_integers(value: Any, name: str, length: int | None = None) -> NDArray[np.int64]:
    """`value` as a vector of integers.

    Raises:
        TypeError: it is no array of integers.
        ValueError: it is no vector, or of another length.
    """
    array = _plain(value)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got {array.dtype} of shape {list(array.shape)}")
    return _vector(array, name, length).astype(np.int64, copy=False)


def as_ids(value: Any, name: str, length: int | None = None) -> NDArray[Any]:
    """`value` as a vector of integers, or of texts.

    Raises:
        TypeError: it is an array of neither.
        ValueError: it is no vector, or of another length.
    """
    array = _plain(value)
    if array.dtype.kind in "OT" and all(isinstance(one, str) for one in array.flat):  # a column of a table
        array = array.astype(str)
    if array.dtype.kind not in "iuU":
        raise TypeError(f"{name} must be integers or texts, got {array.dtype} of shape {list(array.shape)}")
    return _vector(array, name, length)


def _plain(value: Any) -> NDArray[Any]:
    return np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)


def _vector(array: NDArray[Any], name: str, length: int | None) -> NDArray[Any]:
    if array.ndim != 1 or (length is not None and len(array) != length):
        wanted = "a vector" if length is None else f"[{length}]"
        raise ValueError(f"{name} must be {wanted}, got {list(array.shape)}")
    return array


def integer(value: Any, name: str) -> int:
    """An integer of at least 0.

    Raises:
        TypeError: no integer.
        ValueError: a negative one.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if isinstance(value, bool) or number < 0:
        raise ValueError(f"{name} must be an integer of at least 0, got {value!r}")
    return number
