"""Modern Hopfield networks: layers that store patterns and recall them by association."""

from zoo.layers.hopfield.functional import hopfield_association
from zoo.layers.hopfield.hopfield import Hopfield, HopfieldOutput
from zoo.layers.hopfield.lookup import HopfieldLayer
from zoo.layers.hopfield.lookup_head import HopfieldLookupHead
from zoo.layers.hopfield.maps import associate
from zoo.layers.hopfield.pooling import HopfieldPooling
from zoo.layers.hopfield.self_association import HopfieldSelfAssociation
from zoo.layers.hopfield.transformer import HopfieldDecoderLayer, HopfieldEncoderLayer

__all__ = [
    "Hopfield",
    "HopfieldDecoderLayer",
    "HopfieldEncoderLayer",
    "HopfieldLayer",
    "HopfieldLookupHead",
    "HopfieldOutput",
    "HopfieldPooling",
    "HopfieldSelfAssociation",
    "associate",
    "hopfield_association",
]
