"""Dispatch: every chromosome of a case is given a type, with what is known of karyotypes.

The paper of Varifocal-Net (Qin et al., 2019, arXiv 1810.05943) states that it assigns each chromosome of a case to a
type by karyotyping knowledge; its rule is not public. This one is our design: an exact assignment in which gained and
lost copies have a price.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zoo.karyotype.arrays import as_array, as_ids, as_integers, integer
from zoo.karyotype.assignment import assign, slots
from zoo.karyotype.checks import check_log_probs, check_sexes, penalties, warn_of_sums
from zoo.karyotype.greedy import greedy
from zoo.karyotype.result import Karyotype, Overruled
from zoo.karyotype.short_form import short_form
from zoo.karyotype.template import Template, as_template
from zoo.naming import did_you_mean

#: -log of the odds of a gained or lost copy: one in a thousand.
LN_1000 = math.log(1000)
METHODS = ("optimal", "greedy")
Templates = Template | Mapping[str, Sequence[int]] | None


def dispatch(
    log_probs: Any,
    *,
    sex: str = "auto",
    gain: Any = LN_1000,
    loss: Any = LN_1000,
    max_extra: int = 2,
    strict: bool = False,
    method: Literal["optimal", "greedy"] = "optimal",
    template: Templates = None,
) -> Karyotype:
    """Types for the chromosomes of one case: the least sum of -log p, plus `gain` and `loss` per copy too many or few.

        found = dispatch(model(images).type.log_softmax(-1))
        found.karyotype                            # "47,XX,+21"
        found.overruled                            # which chromosomes were not given their likeliest type

    Not a medical device. A penalty is a prior: minus the log odds that a copy is gained or lost. High ones hide
    aneuploidy: with the defaults, a case with one chromosome 21 too many and one X too few (two changes: ln 10^6)
    is reported as 46,XX unless the probabilities outweigh that. `strict` hides all of it. Probabilities must be
    calibrated (`fit_temperature`), or the penalties mean nothing.

    Args:
        log_probs: log-probabilities [N, C] of the chromosomes of one case, classes in the template's order (1..22, X,
            Y). An array, or a tensor on any device. -inf is allowed: a type that it cannot be. What all of a row have
            in common decides on nothing, so that log-likelihoods give the same types, with a warning.
        sex: "XX", "XY", or "auto": whichever costs less; XX where both cost the same.
        gain, loss: penalty for a copy more, and for a copy less, than the template has: a number, or one per class.
        max_extra: copies that a class may have above the template.
        strict: exactly the template's copies; as many chromosomes as it has must be given.
        method: "optimal", exact; "greedy", the surest chromosome first, a baseline that is worse.
        template: another species: `Template`, or sex -> copies of the types 1, 2, ..., X, Y.

    Raises:
        ValueError: log-probabilities that are none, or more of them than there is room for; an unknown sex or method;
            negative penalties.
        MissingExtraError: SciPy is not installed ("greedy" does without).
    """
    rules = _Rules(as_template(template), sex, gain, loss, max_extra, strict, method)
    table = check_log_probs(as_array(log_probs, "log_probs"), rules.template)
    warn_of_sums([table], [""], stacklevel=2)
    return rules.solve(table, np.arange(len(table)), sex, "")


def dispatch_cases(
    log_probs: Any,
    *,
    sizes: Any = None,
    case_ids: Any = None,
    sex: str | Sequence[str] = "auto",
    gain: Any = LN_1000,
    loss: Any = LN_1000,
    max_extra: int = 2,
    strict: bool = False,
    method: Literal["optimal", "greedy"] = "optimal",
    template: Templates = None,
) -> list[Karyotype]:
    """`dispatch` for many cases, of any size each.

    Args:
        log_probs: one array [N_i, C] per case; or one of all cases, [sum N_i, C], with `sizes` or `case_ids`.
        sizes: chromosomes of every case, where they follow one another.
        case_ids: an integer or a text per row, equal within a case; rows may be in any order.
        sex: for all, or one per case.
        gain, loss, max_extra, strict, method, template: as of `dispatch`.

    Returns:
        A `Karyotype` per case, in the order given; by `case_ids`, in the order of `sorted(set(case_ids))`. `rows` of
        each says where its chromosomes stand. `case_metrics` takes labels in the order of either.

    Raises:
        ValueError: as of `dispatch`; or sizes, ids or sexes that do not fit.
    """
    rules = _Rules(as_template(template), "auto", gain, loss, max_extra, strict, method)
    tables, rows, names = _split(log_probs, sizes, case_ids, rules.template)
    sexes = [sex] * len(tables) if isinstance(sex, str) or sex is None else list(sex)
    if len(sexes) != len(tables):
        raise ValueError(f"sex must be one for all, or one per case, got {len(sexes)} for {len(tables)}")
    begin = [f"case {name}: " for name in names]
    warn_of_sums(tables, begin, stacklevel=2)
    return [
        rules.solve(table, where, one, begins)
        for table, where, one, begins in zip(tables, rows, sexes, begin, strict=True)
    ]


class _Rules:
    """What holds for all cases of a call, checked once."""

    def __init__(
        self, template: Template, sex: str, gain: Any, loss: Any, max_extra: Any, strict: Any, method: Any
    ) -> None:
        if method not in METHODS:
            raise ValueError(
                f"unknown method {method!r}{did_you_mean(str(method), METHODS) or '.'} Known: {', '.join(METHODS)}"
            )
        check_sexes(sex, template)
        self.template = template
        self.gain = penalties(gain, "gain", len(template))
        self.loss = penalties(loss, "loss", len(template))
        self.extra = 0 if strict else integer(max_extra, "max_extra")
        self.strict, self.method = bool(strict), method

    def solve(self, log_probs: NDArray[np.float64], rows: NDArray[np.int64], sex: str, where: str) -> Karyotype:
        """The karyotype of one case; `where` begins its errors."""
        sexes = self._sexes(len(log_probs), sex, where)
        best, costs = None, dict.fromkeys(sexes, math.inf)
        for one, types in self._candidates(log_probs, sexes):
            if types is None:
                continue
            copies = np.bincount(types, minlength=len(self.template))
            chosen = log_probs[np.arange(len(types)), types]
            costs[one] = float(self._price(copies, one) - chosen.sum())
            if best is None or costs[one] < costs[best[0]] - 1e-9:
                best = one, types, copies, chosen
        if best is None:
            raise ValueError(
                f"{where}no assignment has a probability above 0: too many entries of log_probs are -inf, or the "
                f"template leaves no room ({' or '.join(sexes)}, at most {self.extra} more of a class)"
            )
        one, types, copies, chosen = best
        return Karyotype(
            types=types,
            sex=one,
            karyotype=short_form(copies.tolist(), one, self.template),
            cost=costs[one],
            copies=copies,
            overruled=_overruled(log_probs, types, chosen, self.template.names),
            log_probs=chosen,
            costs=costs,
            rows=rows,
            strict=self.strict,
            template=self.template,
        )

    def _sexes(self, count: int, sex: str, where: str) -> tuple[str, ...]:
        """The sexes to be tried."""
        sexes = check_sexes(sex, self.template)
        totals = {one: self.template.total(one) for one in sexes}
        if self.strict:
            fitting = tuple(one for one in sexes if totals[one] == count)
            if not fitting:
                wanted = " or ".join(str(total) for total in sorted(set(totals.values())))
                raise ValueError(f"{where}strict=True forces {wanted} chromosomes, and the case has {count}")
            return fitting
        room = {one: total + self.extra * len(self.template) for one, total in totals.items()}
        fitting = tuple(one for one in sexes if room[one] >= count)
        if not fitting:
            raise ValueError(
                f"{where}{count} chromosomes are more than there is room for: {max(totals.values())}, and "
                f"max_extra={self.extra} more of each of {len(self.template)} classes, make {max(room.values())}"
            )
        return fitting

    def _candidates(
        self, log_probs: NDArray[np.float64], sexes: tuple[str, ...]
    ) -> Iterable[tuple[str, NDArray[np.int64] | None]]:
        if self.method == "greedy":
            return ((one, greedy(log_probs, np.array(self.template.of(one)), self.extra)) for one in sexes)
        return assign(-log_probs, slots(self.template, sexes, self.extra), self.gain, self.loss)

    def _price(self, copies: NDArray[np.int64], sex: str) -> float:
        change = copies - np.array(self.template.of(sex))
        return float(self.gain @ np.maximum(change, 0) + self.loss @ np.maximum(-change, 0)) if change.any() else 0.0


def _overruled(
    log_probs: NDArray[np.float64], types: NDArray[np.int64], chosen: NDArray[np.float64], names: tuple[str, ...]
) -> tuple[Overruled, ...]:
    likeliest = log_probs.argmax(1)
    return tuple(
        Overruled(row, names[likeliest[row]], names[types[row]], float(log_probs[row, likeliest[row]] - chosen[row]))
        for row in np.flatnonzero(likeliest != types).tolist()
    )


def _split(
    log_probs: Any, sizes: Any, case_ids: Any, template: Template
) -> tuple[list[NDArray[np.float64]], list[NDArray[np.int64]], Sequence[Any]]:
    """The cases, where the rows of each stand, and what each is called."""
    if sizes is not None and case_ids is not None:
        raise ValueError("give sizes or case_ids, not both")
    if sizes is None and case_ids is None:
        if not isinstance(log_probs, list | tuple):
            raise ValueError("log_probs of several cases is a list of arrays; or give sizes or case_ids")
        tables = [
            check_log_probs(as_array(one, "log_probs"), template, f"case {number}: ")
            for number, one in enumerate(log_probs)
        ]
        ends = np.cumsum([0, *(len(one) for one in tables)])
        return tables, [np.arange(start, end) for start, end in itertools.pairwise(ends)], range(len(tables))
    packed = check_log_probs(as_array(log_probs, "log_probs"), template)
    if sizes is not None:
        lengths = as_integers(sizes, "sizes")
        if (lengths < 1).any() or lengths.sum() != len(packed):
            raise ValueError(f"sizes must be at least 1 and sum to {len(packed)} rows, got {lengths.tolist()}")
        ends = np.cumsum(lengths)
        rows = [np.arange(end - length, end) for end, length in zip(ends, lengths, strict=True)]
        names: Sequence[Any] = range(len(rows))
    else:
        found, number = np.unique(as_ids(case_ids, "case_ids", len(packed)), return_inverse=True)
        order = np.argsort(number, kind="stable")
        rows = np.split(order, np.flatnonzero(np.diff(number[order])) + 1)
        names = found.tolist()
    return [packed[where] for where in rows], rows, names
