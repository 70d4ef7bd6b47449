"""What can be measured of circuits, states and feature maps."""

from zoo.quantum.probes.coverage import Expressibility, entanglement, expressibility
from zoo.quantum.probes.fidelity import kernel
from zoo.quantum.probes.landscapes import Landscape, landscape
from zoo.quantum.probes.plateaus import GradientVariance, gradient_variance
from zoo.quantum.probes.states import bloch_vectors, meyer_wallach

__all__ = [
    "Expressibility",
    "GradientVariance",
    "Landscape",
    "bloch_vectors",
    "entanglement",
    "expressibility",
    "gradient_variance",
    "kernel",
    "landscape",
    "meyer_wallach",
]
