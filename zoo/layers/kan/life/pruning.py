"""Take out of a KAN what carries nothing: nodes first, then edges.

Source: KAN (2024, arXiv 2404.19756); KAN 2.0 (2024, arXiv 2408.10205).
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.layers.kan.basis import BSplineBasis, ChebyshevBasis, GaussianBasis, SwitchBasis
from zoo.layers.kan.life.sample import Stage
from zoo.layers.kan.life.scores import attribution
from zoo.layers.kan.options import check_nonnegative

_PARAMETERS = {"weight", "edge_scale", "base_weight", "bias"}
#: They are the same for all inputs, or have knots that go with theirs.
_BASES = (BSplineBasis, ChebyshevBasis, GaussianBasis, SwitchBasis)


@dataclass
class Pruned:
    """What pruning took out.

    Args:
        nodes: for each hidden layer the numbers, as they were, of the nodes that are gone.
        edges: for each layer, (out, in) of what is left, True where an edge was masked.
        spared: layers, counted from 0, that would have lost every node they hand on or every edge: the best stayed.
    """

    nodes: list[list[int]]
    edges: list[Tensor]
    spared: list[int]


@torch.no_grad()
def prune(
    stages: Sequence[Stage], x: Float[Tensor, "rows in_features"], node_threshold: float, edge_threshold: float
) -> Pruned:
    """Remove hidden nodes of low score, then mask edges of low score in what is left.

    Args:
        stages: layers with their nodes; they are changed.
        x: rows for the first.
        node_threshold: nodes whose score is not above it go.
        edge_threshold: the same for edges.

    Raises:
        ValueError: a negative threshold, or scores that are NaN.
    """
    check_nonnegative("node_threshold", node_threshold)
    check_nonnegative("edge_threshold", edge_threshold)
    gone, spared = [], []
    silent: dict[int, list[int]] = {}  # outputs of layers that stay for a norm's sake, whose curves it needs
    scores = _finite(attribution(stages, x).nodes)
    for i, score in enumerate(scores[1:-1]):
        kept = _above(score, node_threshold, i, "nodes", spared).nonzero().flatten().tolist()
        gone.append(sorted(set(range(len(score))) - set(kept)))
        if gone[-1] and not _remove(stages[i], stages[i + 1][0], kept):
            nodes = stages[i][1]
            silent[i] = gone[-1] if nodes is None else nodes.subnodes_of(gone[-1])
    masked = []
    for i, score in enumerate(_finite(attribution(stages, x).edges)):
        layer, keep = stages[i][0], _above(score, edge_threshold, i, "edges", spared)
        keep[silent.get(i, [])] = True
        masked.append(~keep if layer.mask is None else ~keep & layer.mask)
        if masked[-1].any():
            layer.mask_edges(keep)
    return Pruned(gone, masked, sorted(set(spared)))


def _finite(scores: list[Tensor]) -> list[Tensor]:
    if not all(score.isfinite().all() for score in scores):
        raise ValueError("the scores are not finite, so that nothing can be said of them: look for NaN in the weights")
    return scores


def _above(score: Tensor, threshold: float, layer: int, what: str, spared: list[int]) -> Tensor:
    keep = score > threshold
    if not keep.any():
        keep = torch.arange(score.numel(), device=score.device).view_as(score) == score.argmax()
        spared.append(layer)
        best = keep.nonzero()[0].tolist()
        warnings.warn(
            f"pruning would have emptied layer {layer}: all of its {keep.numel()} {what} scored {threshold} or less; "
            f"the best, {tuple(best) if score.ndim > 1 else best[0]} with {float(score.max()):.3g}, stays",
            stacklevel=5,
        )
    return keep


def _remove(stage: Stage, after: Any, kept: list[int]) -> bool:
    """Remove the nodes behind a layer that are not among those kept; False if they can only be silenced."""
    layer, nodes = stage
    if _has_known_parameters(layer) and _has_known_parameters(after) and _takes_any_inputs(after):
        _select(layer, kept if nodes is None else nodes.subnodes_of(kept), 0)
        _select(after, kept, 1)
        if nodes is not None:
            nodes.keep(kept)
        return True
    # A norm would see other statistics without the node. It stays, and the layer after does not listen to it.
    keep = torch.zeros(after.out_features, after.in_features, dtype=torch.bool)
    keep[:, kept] = True
    after.mask_edges(keep)
    return False


def _has_known_parameters(layer: Any) -> bool:
    return "weight" in layer._parameters and set(layer._parameters) <= _PARAMETERS


def _takes_any_inputs(layer: Any) -> bool:
    return layer.norm is None and type(layer.basis) in _BASES


def _select(layer: Any, index: list[int], dim: int) -> None:
    """Keep some outputs (dim 0) or inputs (dim 1) of a layer."""
    places = torch.tensor(index, device=layer.weight.device)
    for name, parameter in list(layer._parameters.items()):
        if parameter is not None and parameter.ndim > dim:
            setattr(layer, name, nn.Parameter(parameter.index_select(dim, places), parameter.requires_grad))
    if layer.mask is not None:
        layer.mask = layer.mask.index_select(dim, places)
    if dim == 0:
        layer.out_features = len(index)
        return
    layer.in_features = len(index)
    if isinstance(layer.basis, BSplineBasis):
        knots = layer.basis.knots
        layer.basis.in_features = len(index)
        layer.basis.set_knots(knots if len(knots) == 1 else knots[places])
