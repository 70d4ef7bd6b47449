"""Kolmogorov-Arnold layers: curves on the edges, in any of four bases or in one's own."""

from zoo.layers.kan.attention import KANAttention
from zoo.layers.kan.basis import Basis, BSplineBasis, ChebyshevBasis, GaussianBasis, SwitchBasis
from zoo.layers.kan.conv import BottleneckGramConv2d, GramConv2d, KANConv2d
from zoo.layers.kan.fasterkan import FasterKAN, FasterKANLayer, KANBlock
from zoo.layers.kan.functional import kan_linear
from zoo.layers.kan.head import KANHead
from zoo.layers.kan.linear import KANLinear
from zoo.layers.kan.mlp import KANMlp
from zoo.layers.kan.network import KAN
from zoo.layers.kan.nodes import MultiplyNodes
from zoo.layers.kan.switch import switch_basis, switch_linear

__all__ = [
    "KAN",
    "BSplineBasis",
    "Basis",
    "BottleneckGramConv2d",
    "ChebyshevBasis",
    "FasterKAN",
    "FasterKANLayer",
    "GaussianBasis",
    "GramConv2d",
    "KANAttention",
    "KANBlock",
    "KANConv2d",
    "KANHead",
    "KANLinear",
    "KANMlp",
    "MultiplyNodes",
    "SwitchBasis",
    "kan_linear",
    "switch_basis",
    "switch_linear",
]
