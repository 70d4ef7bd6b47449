"""Kolmogorov-Arnold layers: the reflectional switch basis and the stacks built from it."""

from zoo.layers.kan.fasterkan import FasterKAN, FasterKANLayer, KANBlock
from zoo.layers.kan.head import KANHead
from zoo.layers.kan.switch import switch_basis, switch_linear

__all__ = ["FasterKAN", "FasterKANLayer", "KANBlock", "KANHead", "switch_basis", "switch_linear"]
