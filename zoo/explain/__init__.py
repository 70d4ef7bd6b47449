"""Pictures of what a model has learned, and of why it decides as it does."""

from zoo.explain.charts import asymmetry_matrix, decision_chart
from zoo.explain.finding import layer_inputs, tversky_layer
from zoo.explain.images import feature_images, nearest_examples, prototype_images

__all__ = [
    "asymmetry_matrix",
    "decision_chart",
    "feature_images",
    "layer_inputs",
    "nearest_examples",
    "prototype_images",
    "tversky_layer",
]
