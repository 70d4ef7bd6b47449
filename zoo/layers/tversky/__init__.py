"""Tversky's similarity over learned features, as a function and as layers."""

from zoo.layers.tversky.cross_entropy import tversky_cross_entropy
from zoo.layers.tversky.data_bank import DataDomainBank
from zoo.layers.tversky.functional import tversky_similarity
from zoo.layers.tversky.projection import TverskyProjection
from zoo.layers.tversky.replacing import replace_linear
from zoo.layers.tversky.similarity import TverskySimilarity

__all__ = [
    "DataDomainBank",
    "TverskyProjection",
    "TverskySimilarity",
    "replace_linear",
    "tversky_cross_entropy",
    "tversky_similarity",
]
