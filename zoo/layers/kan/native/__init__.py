"""B-splines in C: the optional compiled backend of KAN layers on a CPU."""

from zoo.layers.kan.native.functions import fill, gather, pack, unpack, weighted_sum

__all__ = ["fill", "gather", "pack", "unpack", "weighted_sum"]
