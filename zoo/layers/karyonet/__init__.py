"""KaryoNet's modules for all chromosomes of a patient case at once: learned dispatch, and interaction of features."""

from zoo.layers.karyonet.assignment import KaryotypeAssignment
from zoo.layers.karyonet.interaction import CaseInteraction, CaseInteractionOutput
from zoo.layers.karyonet.loss import chromosome_groups, karyonet_loss, pair_loss

__all__ = [
    "CaseInteraction",
    "CaseInteractionOutput",
    "KaryotypeAssignment",
    "chromosome_groups",
    "karyonet_loss",
    "pair_loss",
]
