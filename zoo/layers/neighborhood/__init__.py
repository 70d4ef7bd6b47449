"""Neighbourhood attention (NA) and its dilated form (DiNA), on any device and without NATTEN."""

from zoo.layers.neighborhood.functional import neighborhood_attention, neighborhood_attention_packed
from zoo.layers.neighborhood.modules import (
    DiNA,
    NeighborhoodAttention1d,
    NeighborhoodAttention2d,
    NeighborhoodAttention3d,
)

__all__ = [
    "DiNA",
    "NeighborhoodAttention1d",
    "NeighborhoodAttention2d",
    "NeighborhoodAttention3d",
    "neighborhood_attention",
    "neighborhood_attention_packed",
]
