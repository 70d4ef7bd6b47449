"""The cheapest way to give every chromosome of a case a type, exactly."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zoo.errors import MissingExtraError
from zoo.karyotype.template import Template


class Slots(NamedTuple):
    """Places for chromosomes as columns of a cost matrix: what all sexes share, then what one has of its own."""

    shared: NDArray[np.int64]
    own: dict[str, NDArray[np.int64]]
    #: Columns of `shared` up to here are copies that the template has; the rest are gains.
    ordinary: int


@functools.lru_cache(maxsize=64)
def slots(template: Template, sexes: tuple[str, ...], extra: int) -> Slots:
    """The class of every column."""
    copies = np.array([template.of(sex) for sex in sexes])
    common, classes = copies.min(0), np.arange(len(template))
    shared = np.concatenate([np.repeat(classes, common), np.repeat(classes, extra)])
    own = {sex: np.repeat(classes, counts - common) for sex, counts in zip(sexes, copies, strict=True)}
    return Slots(shared, own, int(common.sum()))


def assign(
    cost: NDArray[np.float64],
    places: Slots,
    gain: NDArray[np.float64],
    loss: NDArray[np.float64],
) -> Iterator[tuple[str, NDArray[np.int64] | None]]:
    """For each sex, the types with the least sum of `cost` + gain per copy too many + loss per copy too few.

    A copy that the template has costs what the chromosome costs there, an extra one `gain` more. A missing copy costs
    `loss`, which is the same as earning `loss` for each that is there, less a constant: so no row stands for a missing
    chromosome, and the matrix is N x K rather than K x K. Earnings are written as what is left of the largest, so that
    large penalties do not cost digits. A gain never takes the place of a copy that the template still misses, since
    it costs gain + loss >= 0 more.

    Args:
        cost: of every chromosome in every class, [N, C]; infinite where it cannot be.
        places: of `slots`.
        gain, loss: penalties of every class, [C].

    Yields:
        sex, and the class of every row; None where every way costs infinity.
    """
    solve = _solver()
    most = loss.max()
    width, ordinary = len(places.shared), places.ordinary
    matrix = np.empty((len(cost), width + max(len(columns) for columns in places.own.values())))
    np.take(cost, places.shared, axis=1, out=matrix[:, :width])
    matrix[:, :ordinary] += (most - loss)[places.shared[:ordinary]]
    matrix[:, ordinary:width] += (most + gain)[places.shared[ordinary:]]
    for sex, columns in places.own.items():
        end = width + len(columns)
        matrix[:, width:end] = cost[:, columns] + (most - loss)[columns]
        try:
            _, chosen = solve(matrix[:, :end])
        except ValueError:  # infeasible
            yield sex, None
            continue
        yield sex, np.concatenate([places.shared, columns])[chosen]


@functools.cache
def _solver() -> Callable[..., Any]:
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise MissingExtraError("zoo.karyotype.dispatch", "scipy", "karyotype") from error
    return linear_sum_assignment
