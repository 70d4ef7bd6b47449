"""Pictures of what a model has learned, and of why it decides as it does."""

from zoo.explain.association import association_map
from zoo.explain.barren_plateau import plateau_chart
from zoo.explain.bloch import bloch_spheres
from zoo.explain.charts import asymmetry_matrix, decision_chart
from zoo.explain.edges import edge_curves
from zoo.explain.energies import energy_curves
from zoo.explain.expressibility import expressibility_chart
from zoo.explain.finding import hopfield_layer, layer_association, layer_inputs, tversky_layer
from zoo.explain.images import feature_images, nearest_examples, prototype_images
from zoo.explain.importances import importance_chart
from zoo.explain.instances import top_instances
from zoo.explain.kan_parts import KANPart, kan_part
from zoo.explain.karyogram import plot_karyogram
from zoo.explain.landscape import landscape_map
from zoo.explain.mixing import mixing_histogram
from zoo.explain.network import network_graph
from zoo.explain.regions import plot_regions
from zoo.explain.scoring import feature_scores
from zoo.explain.sweep import beta_sweep

__all__ = [
    "KANPart",
    "association_map",
    "asymmetry_matrix",
    "beta_sweep",
    "bloch_spheres",
    "decision_chart",
    "edge_curves",
    "energy_curves",
    "expressibility_chart",
    "feature_images",
    "feature_scores",
    "hopfield_layer",
    "importance_chart",
    "kan_part",
    "landscape_map",
    "layer_association",
    "layer_inputs",
    "mixing_histogram",
    "nearest_examples",
    "network_graph",
    "plateau_chart",
    "plot_karyogram",
    "plot_regions",
    "prototype_images",
    "top_instances",
    "tversky_layer",
]
