"""What the chromosomes of one case were taken for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zoo.karyotype.template import Template


class Overruled(NamedTuple):
    """A chromosome that was not given the type that alone it is likeliest to be."""

    index: int
    likeliest: str
    given: str
    #: log p(likeliest) - log p(given): what was given up.
    log_odds: float


@dataclass(frozen=True, eq=False, repr=False)
class Karyotype:
    """One case after dispatch.

    Args:
        types: class of every chromosome, [N].
        sex: the template that it was compared with.
        karyotype: the short form, "47,XX,+21".
        cost: sum of -log p and penalties.
        copies: chromosomes of every class, [C].
        overruled: chromosomes whose likeliest type was given up, by index. Look at these.
        log_probs: log p of the type given, [N].
        costs: of every sex that was tried.
        rows: where the case's chromosomes stand in what was given.
        strict: the template was forced: gains and losses could not show.
        template: the species.
    """

    types: NDArray[np.int64]
    sex: str
    karyotype: str
    cost: float
    copies: NDArray[np.int64]
    overruled: tuple[Overruled, ...]
    log_probs: NDArray[np.float64]
    costs: Mapping[str, float]
    rows: NDArray[np.int64]
    strict: bool
    template: Template = field(repr=False)

    @property
    def names(self) -> list[str]:
        """Type of every chromosome by name: "1" ... "22", "X", "Y"."""
        return [self.template.names[index] for index in self.types.tolist()]

    def __len__(self) -> int:
        return len(self.types)

    def __repr__(self) -> str:
        forced = ", template forced" if self.strict else ""
        return (
            f"Karyotype('{self.karyotype}', {len(self)} chromosome{'s' * (len(self) != 1)}, cost {self.cost:.4g}, "
            f"{len(self.overruled)} overruled{forced})"
        )

    def __str__(self) -> str:
        return self.table()

    def table(self) -> str:
        """A line of the whole, a line for every type that has chromosomes, and a line for every one overruled."""
        width = max(len(name) for name in self.template.names)
        lines = [repr(self)]
        for number, name in enumerate(self.template.names):
            members = np.flatnonzero(self.types == number).tolist()
            change = len(members) - self.template.of(self.sex)[number]
            if members or change:
                mark = f"  ({change:+d})" if change else ""
                shown = ", ".join(f"{index} (p {math.exp(self.log_probs[index]):.3f})" for index in members)
                lines.append(f"  {name:>{width}}: {shown or 'none'}{mark}")
        for one in self.overruled:
            lines.append(
                f"  overruled: {one.index}, alone likeliest {one.likeliest}, taken for {one.given}: "
                f"log-odds {one.log_odds:.3g} given up"
            )
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON holds them; an odds of infinity is None."""
        return {
            "karyotype": self.karyotype,
            "sex": self.sex,
            "chromosomes": len(self),
            "cost": self.cost,
            "costs": {sex: cost if math.isfinite(cost) else None for sex, cost in self.costs.items()},
            "strict": self.strict,
            "types": self.names,
            "copies": dict(zip(self.template.names, self.copies.tolist(), strict=True)),
            "overruled": [
                one._asdict() | {"log_odds": one.log_odds if math.isfinite(one.log_odds) else None}
                for one in self.overruled
            ],
        }
