"""Looking inside a layer of the family: its features in an input, what they add up to, and changing them by hand."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.layers.tversky.banks import SharedBank
from zoo.layers.tversky.data_bank import DataDomainBank
from zoo.layers.tversky.diagnosis import Diagnosis, diagnose
from zoo.layers.tversky.explanation import Explanation, explain, prototypes_of
from zoo.layers.tversky.feature_sets import FeatureSet
from zoo.layers.tversky.functional import check_rows, measure
from zoo.layers.tversky.reference import positive, presence

__all__ = [
    "Diagnosis",
    "Explanation",
    "FeatureSet",
    "asymmetry",
    "diagnose",
    "explain",
    "feature_activations",
    "feature_sets",
    "prototype_sets",
    "read_feature",
    "salience",
    "set_prototype",
]


def feature_activations(layer: Any, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch features"]:
    """How much of each feature there is in x: its measure where it is present, else 0. With gradient.

    Args:
        layer: a `TverskyProjection` or `TverskySimilarity`.
        x: (*batch, in_features), inputs of the layer.

    Raises:
        ValueError: an input of another width.
        TypeError: an integer input.
    """
    measures = _measures(layer, x)
    return positive(measures, presence(measures, layer.membership), layer.membership)


def salience(layer: Any, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch"]:
    """How much there is in x altogether: the sum of its feature activations. With gradient.

    Args:
        layer, x: as for `feature_activations`.
    """
    return feature_activations(layer, x).sum(-1)


@torch.no_grad()
def feature_sets(layer: Any, x: Float[Tensor, "*batch width"]) -> FeatureSet:
    """The features that are present in x: those whose measure is above 0, whatever the membership.

    Args:
        layer, x: as for `feature_activations`.
    """
    return FeatureSet(_measures(layer, x) > 0)


@torch.no_grad()
def prototype_sets(layer: Any) -> FeatureSet:
    """The features that are present in each of the P prototypes: (P, F).

    Raises:
        TypeError: a layer without prototypes.
    """
    return feature_sets(layer, prototypes_of(layer).weight)


@torch.no_grad()
def asymmetry(layer: Any) -> Float[Tensor, "prototypes prototypes"]:
    """S(i, j) - S(j, i) between the prototypes, i as the input: above 0 where i is more like j than j is like i.

    Raises:
        TypeError: a layer without prototypes.
    """
    between = layer(prototypes_of(layer).weight)
    return between - between.T


@torch.no_grad()
def read_feature(layer: Any, index: int) -> Float[Tensor, "width"]:
    """A copy of the vector of one feature.

    Raises:
        IndexError: no such feature.
    """
    bank = layer.feature_bank.weight
    _check_index("feature", index, bank.shape[0])
    return bank[index].clone()


@torch.no_grad()
def set_prototype(layer: Any, index: int, value: Tensor) -> None:
    """Put a vector in place of a prototype: an input of the layer, say, to make a class of one example.

    Shared prototypes change for all their readers.

    Args:
        layer: a `TverskyProjection`.
        index: of the prototype.
        value: (in_features,); for prototypes that are a `DataDomainBank`, an input of its encoder.

    Raises:
        IndexError: no such prototype.
        ValueError: another shape, or numbers that are not finite.
        TypeError: no tensor, a layer without prototypes, or prototypes that are computed from something else.
    """
    rows = _stored(prototypes_of(layer))
    _check_index("prototype", index, rows.shape[0])
    if not isinstance(value, Tensor):
        raise TypeError(f"the prototype must be a tensor, got {type(value).__name__}")
    if not bool(value.isfinite().all()):
        raise ValueError("the prototype must be finite, got NaN or infinity")
    if value.shape != rows.shape[1:]:
        raise ValueError(f"the prototype must be {tuple(rows.shape[1:])}, got {tuple(value.shape)}")
    rows[index] = value.to(rows)


def _stored(bank: Any) -> nn.Parameter:
    """The parameter that a bank's rows are read from."""
    while isinstance(bank, SharedBank):
        bank = bank.owner
    if isinstance(bank, DataDomainBank):
        return bank.inputs
    stored = bank if isinstance(bank, Tensor) else bank.weight
    if not isinstance(stored, nn.Parameter):
        raise TypeError(f"the prototypes are computed by {type(bank).__name__}; set what it computes them from")
    return stored


def _measures(layer: Any, x: Tensor) -> Tensor:
    bank = layer.feature_bank.weight
    nothing = bank[:0]
    check_rows(x, nothing, bank)
    return measure(x, nothing, bank, layer.normalize)[0]


def _check_index(what: str, index: int, count: int) -> None:
    if isinstance(index, bool) or not isinstance(index, int):
        raise TypeError(f"{what} must be an integer, got {index!r}")
    if not 0 <= index < count:
        raise IndexError(f"{what} must be in 0..{count - 1}, got {index}")
