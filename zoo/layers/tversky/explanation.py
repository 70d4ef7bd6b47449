"""A similarity as a sum over features."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from zoo.layers.tversky.functional import check_rows, measure
from zoo.layers.tversky.reference import positive, presence, reference_similarity, set_intersection

_SHOWN = 10


@dataclass(frozen=True, eq=False)
class Explanation:
    """What every feature adds to one output of a `TverskyProjection`, for one input or a batch.

    Contrast model: `common`, `ours` and `theirs` are what is common, what only the input has and what only the
    prototype has, with theta, -alpha and -beta in them: their sum over all features is the score.

    Ratio model: `common` alone sums to the score. `ours` and `theirs` are the parts of the distinctive features in
    the denominator, negative, as they lower the score: scale = sum(common - ours - theirs) + scale / denominator.

    Set level: min, max, mean, gmean, softmin and substractmatch are of two sums, of the input's and of the
    prototype's measures over the common features. Either sum counts as much as its derivative says: the smaller for
    min, the larger for max, half of each for mean; the larger less the smaller for substractmatch, so that a feature
    may have either sign there. What is beyond that, at most log 2 of a softmin, is spread evenly over all features.

    Args:
        target: the output that is explained.
        score: its value.
        features: numbers of the features, in order; after `top`, the one that matters most first.
        common, ours, theirs: see above.
        input_measures, prototype_measures: of the features; they are present where this is above 0.
        rest: what the features that are not listed add to the score.
        denominator: of the ratio model; 1 for the contrast model.
        similarity: "contrast" or "ratio".
        num_features: of the layer.
    """

    target: Int[Tensor, "*batch"]
    score: Float[Tensor, "*batch"]
    features: Int[Tensor, "*batch k"]
    common: Float[Tensor, "*batch k"]
    ours: Float[Tensor, "*batch k"]
    theirs: Float[Tensor, "*batch k"]
    input_measures: Float[Tensor, "*batch k"]
    prototype_measures: Float[Tensor, "*batch k"]
    rest: Float[Tensor, "*batch"]
    denominator: Float[Tensor, "*batch"]
    similarity: str
    num_features: int

    @property
    def terms(self) -> Float[Tensor, "*batch k"]:
        """What each feature adds to the score: with `rest` they sum to it."""
        return self.common if self.similarity == "ratio" else self.common + self.ours + self.theirs

    def top(self, count: int) -> "Explanation":
        """Only the features that matter most, the first of them first, by |common| + |ours| + |theirs|.

        Raises:
            ValueError: a count below 1.
        """
        if count < 1:
            raise ValueError(f"the number of features must be at least 1, got {count}")
        size = self.common.abs() + self.ours.abs() + self.theirs.abs()
        order = size.argsort(dim=-1, descending=True, stable=True)[..., :count]
        listed = ("features", "common", "ours", "theirs", "input_measures", "prototype_measures")
        shorter = replace(self, **{name: getattr(self, name).gather(-1, order) for name in listed})
        return replace(shorter, rest=self.score - shorter.terms.sum(-1))

    def __len__(self) -> int:
        """Rows of the batch."""
        return self._batched().shape[0]

    def __getitem__(self, row: int) -> "Explanation":
        """The explanation of one row of a batch."""
        self._batched()
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: value[row] for name, value in values.items() if isinstance(value, Tensor)})

    def to_dict(self) -> dict[str, Any]:
        """Numbers, names and lists, ready for JSON; `terms` too."""
        values = {field.name: getattr(self, field.name) for field in fields(self)} | {"terms": self.terms}
        return {name: value.tolist() if isinstance(value, Tensor) else value for name, value in values.items()}

    def __str__(self) -> str:
        if self.target.ndim:
            shown = [str(self[row]) for row in range(min(len(self), _SHOWN))]
            more = len(self) - len(shown)
            return "\n\n".join([*shown, f"{more} more"] if more else shown)
        listed = self.top(_SHOWN)
        columns = ("input", "prototype", "common", "ours", "theirs", "term")
        table = (
            listed.input_measures,
            listed.prototype_measures,
            listed.common,
            listed.ours,
            listed.theirs,
            listed.terms,
        )
        lines = [f"output {int(self.target)}: {self.score:.4f} ({self.similarity} model)"]
        lines.append(f"{'feature':>12}" + "".join(f"{c:>11}" for c in columns))
        for number, *row in zip(listed.features.tolist(), *(column.tolist() for column in table), strict=True):
            lines.append(f"{number:>12}" + "".join(f"{value:>11.4f}" for value in row))
        others = self.num_features - listed.features.shape[-1]
        if others:
            lines.append(f"{f'{others} others':>12}{listed.rest:>66.4f}")
        if self.similarity == "ratio":
            lines.append(f"divided by {self.denominator:.4f}; ours and theirs are parts of that, not of the sum")
        return "\n".join(lines)

    def _batched(self) -> Tensor:
        if self.target.ndim == 0:
            raise TypeError("this explains one row, not a batch")
        return self.target


@torch.no_grad()
def explain(
    layer: Any,
    x: Float[Tensor, "*batch width"],
    target: int | Tensor | None = None,
    topk: int | None = None,
) -> Explanation:
    """The terms of a layer's outputs, feature by feature.

    Args:
        layer: a `TverskyProjection`.
        x: (*batch, in_features), inputs of the layer.
        target: number of the output, or one for every row; None for the largest output of each row.
        topk: list only that many features, those that matter most; None for all, in their order.

    Returns:
        The terms, in float32 or better.

    Raises:
        ValueError: a target that the layer has not, an input of another width.
        TypeError: a layer without prototypes.
    """
    rows, bank = prototypes_of(layer).weight, layer.feature_bank.weight
    check_rows(x, rows, bank)
    chosen = layer(x).argmax(-1) if target is None else _check_target(target, rows.shape[0], x)
    A, Q = (m if m.dtype == torch.float64 else m.float() for m in measure(x, rows[chosen], bank, layer.normalize))
    common, ours, theirs = _parts(layer, A, Q)
    theta, alpha, beta = (weight.to(A.dtype) for weight in layer.scalars())
    denominator = torch.ones_like(common[..., 0])
    if layer.similarity == "ratio":
        theta = torch.ones_like(theta)
        denominator = common.sum(-1) + alpha * ours.sum(-1) + beta * theirs.sum(-1) + 1
    factor = layer.scale / denominator.unsqueeze(-1)
    # What is subtracted from 0 is never -0.
    common, ours, theirs = factor * theta * common, 0 - factor * alpha * ours, 0 - factor * beta * theirs
    score = (common if layer.similarity == "ratio" else common + ours + theirs).sum(-1)
    whole = Explanation(
        target=chosen,
        score=score,
        features=torch.arange(A.shape[-1], device=A.device).expand(A.shape),
        common=common,
        ours=ours,
        theirs=theirs,
        input_measures=A,
        prototype_measures=Q,
        rest=torch.zeros_like(score),
        denominator=denominator,
        similarity=layer.similarity,
        num_features=A.shape[-1],
    )
    return whole if topk is None else whole.top(topk)


def prototypes_of(layer: Any) -> Any:
    """The bank of a layer's prototypes.

    Raises:
        TypeError: it has none.
    """
    bank = getattr(layer, "prototypes", None)
    if bank is None:
        raise TypeError(f"{type(layer).__name__} has no prototypes; this needs a TverskyProjection")
    return bank


def _check_target(target: int | Tensor, outputs: int, x: Tensor) -> Tensor:
    chosen = torch.as_tensor(target, device=x.device)
    if chosen.is_floating_point() or chosen.dtype == torch.bool:
        raise TypeError(f"target must be the number of an output, got {chosen.dtype}")
    if chosen.ndim and chosen.shape != x.shape[:-1]:
        raise ValueError(f"target must be one number or {tuple(x.shape[:-1])}, one a row; got {tuple(chosen.shape)}")
    wrong = chosen[(chosen < 0) | (chosen >= outputs)]
    if wrong.numel():
        raise ValueError(f"target must be in 0..{outputs - 1}, got {int(wrong.flatten()[0])}")
    return chosen.long().expand(x.shape[:-1])


def _parts(layer: Any, A: Tensor, Q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Terms of f(A and Q), f(A - Q) and f(Q - A): (*, F) each."""
    if layer.per_feature:
        common, ours, theirs = (_each_feature(layer, A, Q, part) for part in range(3))
        return common, ours, theirs
    in_a, in_q = presence(A, layer.membership), presence(Q, layer.membership)
    a, q = positive(A, in_a, layer.membership), positive(Q, in_q, layer.membership)
    of_a, of_q = a * in_q, in_a * q
    ours, theirs = a * (1 - in_q), (1 - in_a) * q
    if layer.difference == "substractmatch":
        ours = ours + _shares(lambda x, y: torch.relu(x - y), of_a, of_q)
        theirs = theirs + _shares(lambda x, y: torch.relu(y - x), of_a, of_q)
    if layer.intersection == "product":
        return a * q, ours, theirs
    return _shares(lambda x, y: set_intersection(x, y, layer.intersection), of_a, of_q), ours, theirs


def _each_feature(layer: Any, A: Tensor, Q: Tensor, part: int) -> Tensor:
    """One of the three parts at the feature level: that of layers of a single feature each."""
    one, none = A.new_ones(()), A.new_zeros(())
    weights = ((one, none, none), (none, -one, none), (none, none, -one))[part]
    how = (layer.intersection, layer.difference, True, layer.membership)
    return reference_similarity(A[..., None, None], Q[..., None, None], *weights, "contrast", *how)[..., 0, 0]


def _shares(reduction: Callable[[Tensor, Tensor], Tensor], of_a: Tensor, of_q: Tensor) -> Tensor:
    """A function of two sums over features as a sum over features, by the derivative of each sum."""
    sum_a, sum_q = (each.sum(-1, keepdim=True).requires_grad_() for each in (of_a, of_q))
    with torch.enable_grad():
        value = reduction(sum_a, sum_q)
        slope_a, slope_q = torch.autograd.grad(value.sum(), (sum_a, sum_q))
    shares = slope_a * of_a + slope_q * of_q
    return shares + (value.detach() - shares.sum(-1, keepdim=True)) / of_a.shape[-1]
