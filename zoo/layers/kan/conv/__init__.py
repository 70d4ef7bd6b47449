"""Convolutional Kolmogorov-Arnold layers: every channel expanded in functions of it, then one convolution."""

from zoo.layers.kan.conv.bottleneck import BottleneckGramConv2d
from zoo.layers.kan.conv.gram import GramConv2d, gram_conv2d, gram_polynomials
from zoo.layers.kan.conv.kan_conv import KANConv2d

__all__ = ["BottleneckGramConv2d", "GramConv2d", "KANConv2d", "gram_conv2d", "gram_polynomials"]
