"""What is done with a KAN on a sample of its inputs: grids, scores, sparsity, pruning."""

from zoo.layers.kan.life.kan_life import KANLife
from zoo.layers.kan.life.pruning import Pruned

__all__ = ["KANLife", "Pruned"]
