"""The largest values on a grid of cells over a map."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def grid_max(
    features: Float[Tensor, "batch dim height width"], cells: int
) -> Float[Tensor, "batch dim {cells} {cells}"]:
    """Adaptive max-pool to `cells` x `cells`; where they divide the map an ordinary one, whose gradient is the same
    from run to run on a GPU, too.
    """
    height, width = features.shape[2:]
    if height % cells or width % cells:
        return F.adaptive_max_pool2d(features, cells)
    return F.max_pool2d(features, (height // cells, width // cells))
