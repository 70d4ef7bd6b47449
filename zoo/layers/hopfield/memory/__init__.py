"""Associative memories: retrieval from stored patterns, its energy, and what can go wrong with it."""

from zoo.layers.hopfield.memory.boosting import boosting_score, border_energy, memory_energy
from zoo.layers.hopfield.memory.composed import Recall
from zoo.layers.hopfield.memory.energies import energy
from zoo.layers.hopfield.memory.feature_map import learn_feature_map, uniformity
from zoo.layers.hopfield.memory.files import mapped_patterns
from zoo.layers.hopfield.memory.linear import LinearMemory
from zoo.layers.hopfield.memory.margins import beta_for, separations
from zoo.layers.hopfield.memory.report import RetrievalReport, retrieval_report
from zoo.layers.hopfield.memory.retrieval import association, recall, retrieve
from zoo.layers.hopfield.memory.separation import SEPARATIONS
from zoo.layers.hopfield.memory.similarity import SIMILARITIES
from zoo.layers.hopfield.memory.store import HopfieldMemory

__all__ = [
    "SEPARATIONS",
    "SIMILARITIES",
    "HopfieldMemory",
    "LinearMemory",
    "Recall",
    "RetrievalReport",
    "association",
    "beta_for",
    "boosting_score",
    "border_energy",
    "energy",
    "learn_feature_map",
    "mapped_patterns",
    "memory_energy",
    "recall",
    "retrieval_report",
    "retrieve",
    "separations",
    "uniformity",
]
