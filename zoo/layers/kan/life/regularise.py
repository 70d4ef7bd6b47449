"""Penalties that make a KAN sparse, measured on a sample.

    l1 sum(v) + entropy (H_rows(v) + H_columns(v)) + coefficients sum |c| / out + differences sum |c' - c| / out,

summed over the layers, with v the matrix of a layer that the metric names, and H the mean over rows (columns) of
-sum p log2(p + 1e-4), p = v / (sum v + 1) along the row (column). A vector v, of nodes, has one H.

Source: KAN (2024, arXiv 2404.19756); KAN 2.0 (2024, arXiv 2408.10205).
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from zoo.layers.kan.life.sample import Stage, visits
from zoo.layers.kan.life.scores import attribution, deviations, edge_deviations
from zoo.layers.kan.options import check_choice

#: The deviation of a curve over its input's spread; the same (with symbolic edges in pykan); the deviation; the score
#: of an edge; the score of a node.
METRICS = ("edge_forward_spline_n", "edge_forward_sum", "edge_forward_spline_u", "edge_backward", "node_backward")
_SPREAD = 0.1
_SHARE = 1e-4


def sample_regularization(
    stages: Sequence[Stage],
    x: Float[Tensor, "rows in_features"],
    metric: str = METRICS[0],
    l1: float = 1.0,
    entropy: float = 2.0,
    coefficients: float = 0.0,
    differences: float = 0.0,
) -> Float[Tensor, ""]:
    """The penalty of a network; differentiable.

    Args:
        stages: layers with their nodes.
        x: rows for the first.
        metric: of `METRICS`.
        l1: weight of the sum.
        entropy: weight of the entropies.
        coefficients: weight of the coefficients' sizes.
        differences: weight of the differences between coefficients that follow one another.

    Raises:
        ValueError: an unknown metric.
    """
    check_choice("metric", metric, METRICS)
    terms = [l1 * v.sum() + entropy * _entropies(v) for v in _measured(stages, x, metric)]
    for layer, _ in stages:
        if coefficients:
            terms.append(coefficients * _kept(layer).abs().mean(0).sum())
        if differences:
            terms.append(differences * _kept(layer).diff(dim=-1).abs().mean(0).sum())
    return torch.stack(terms).sum()


def _measured(stages: Sequence[Stage], x: Tensor, metric: str) -> list[Tensor]:
    if metric == "edge_backward":
        return attribution(stages, x).edges
    if metric == "node_backward":
        return attribution(stages, x).nodes
    matrices = []
    for layer, u in visits(stages, x):
        edges = edge_deviations(layer, u)
        matrices.append(edges if metric == "edge_forward_spline_u" else edges / (deviations(u) + _SPREAD))
    return matrices


def _kept(layer: Any) -> Tensor:
    return layer.weight if layer.mask is None else layer.weight * layer.mask.unsqueeze(-1)


def _entropies(v: Tensor) -> Tensor:
    return torch.stack([_entropy(v, dim) for dim in range(-v.ndim, 0)]).sum()


def _entropy(v: Tensor, dim: int) -> Tensor:
    p = v / (v.sum(dim, keepdim=True) + 1)
    return -(p * (p + _SHARE).log2()).sum(dim).mean()
