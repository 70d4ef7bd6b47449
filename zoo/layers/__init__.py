"""The layers, one file or folder per paper layer; imported when first used."""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "DataDomainBank": "tversky",
    "DiNA": "neighborhood",
    "NeighborhoodAttention1d": "neighborhood",
    "NeighborhoodAttention2d": "neighborhood",
    "NeighborhoodAttention3d": "neighborhood",
    "neighborhood_attention": "neighborhood",
    "Attention": "plain",
    "AveragePool": "plain",
    "FasterKAN": "kan",
    "FasterKANLayer": "kan",
    "Hopfield": "hopfield",
    "HopfieldDecoderLayer": "hopfield",
    "HopfieldEncoderLayer": "hopfield",
    "HopfieldLayer": "hopfield",
    "HopfieldLookupHead": "hopfield",
    "HopfieldMemory": "hopfield.memory",
    "HopfieldPooling": "hopfield",
    "HopfieldSelfAssociation": "hopfield",
    "hopfield_association": "hopfield",
    "KAN": "kan",
    "KANAttention": "kan",
    "BottleneckGramConv2d": "kan",
    "CaseInteraction": "karyonet",
    "GramConv2d": "kan",
    "KANBlock": "kan",
    "KANConv2d": "kan",
    "KANHead": "kan",
    "KANLinear": "kan",
    "KANMlp": "kan",
    "KaryotypeAssignment": "karyonet",
    "MultiplyNodes": "kan",
    "kan_linear": "kan",
    "karyonet_loss": "karyonet",
    "LFPBlock": "medvit2_blocks",
    "GFPBlock": "medvit2_blocks",
    "GNet": "zoo.models.varifocal",
    "LNet": "zoo.models.varifocal",
    "Linear": "plain",
    "LocalizationHead": "varifocal",
    "Mlp": "plain",
    "PCSRUpsampler": "pixel_adaptive",
    "PixelUpsampler": "pixel_adaptive",
    "VarifocalCrop": "varifocal",
    "WideUnit": "varifocal",
    "bicubic_downscale": "bicubic",
    "boxcar_mask": "varifocal",
    "make_coords": "pixel_adaptive",
    "pcsr_loss": "pixel_adaptive",
    "QNN": "zoo.quantum",
    "QTN": "zoo.quantum",
    "QuantumLayer": "zoo.quantum",
    "StitchLayer": "stitch",
    "TverskyProjection": "tversky",
    "TverskySimilarity": "tversky",
    "replace_linear": "tversky",
    "tversky_cross_entropy": "tversky",
    "tversky_similarity": "tversky",
    "varifocal_crop": "varifocal",
}

__all__ = list(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        home = _HOME[name]
        return getattr(importlib.import_module(home if home.startswith("zoo.") else f"zoo.layers.{home}"), name)
    from zoo.naming import did_you_mean

    raise AttributeError(f"module 'zoo.layers' has no attribute {name!r}{did_you_mean(name, __all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
