"""How much every edge and node of a KAN carries, over a sample.

The standard deviation of a curve phi_oi = w_oi^T f_i, over the sample, needs no values of the curve: with C_i the
covariance of the features f_i of input i (its basis functions and its activated value),

    std(phi_oi)^2 = w_oi^T C_i w_oi.

Attribution goes from the outputs back, with S_o the deviation of sub-node o, each output k by itself:

    edge_koi = std(phi_oi) sub_ko / (S_o + 1e-4),        node_ki = sum_o edge_koi,

and sub_ko the score of the node that o belongs to: every factor of a product gets all of it. Scores are means over the
outputs.

Source: KAN (2024, arXiv 2404.19756); KAN 2.0 (2024, arXiv 2408.10205).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from zoo.layers.kan.life.sample import Stage, working_dtype

_LEAST_DEVIATION = 1e-4
_BLOCK = 2**22  # numbers held at a time


class Scores(NamedTuple):
    """Of a network: `edges`, (out, in) for each layer, and `nodes`, those of the inputs, of each layer in turn."""

    edges: list[Tensor]
    nodes: list[Tensor]


def edge_deviations(layer: Any, x: Float[Tensor, "rows in_features"]) -> Float[Tensor, "out in_features"]:
    """The standard deviation of every edge's curve over the rows; differentiable, with slope 0 where it is 0.

    Args:
        layer: a `KANLinear`.
        x: rows for it.
    """
    covariances = feature_covariances(layer, x)
    weight = edge_weights(layer).to(covariances.dtype)
    step = max(1, _BLOCK // weight[:, 0].numel())
    blocks = zip(weight.split(step, 1), covariances.split(step), strict=True)
    # (in, out, K): one product of matrices for every input.
    variances = [((w.transpose(0, 1) @ c) * w.transpose(0, 1)).sum(-1) for w, c in blocks]
    return _root(torch.cat(variances).t()).to(torch.promote_types(layer.weight.dtype, torch.float32))


def edge_weights(layer: Any) -> Float[Tensor, "out in_features features"]:
    """The coefficients of the features of each edge: of the basis functions, then of the base branch.

    Args:
        layer: a `KANLinear`.
    """
    weight, base = layer.scaled_weight(), layer.masked_base_weight()
    return weight if base is None else torch.cat([weight, base.unsqueeze(-1)], -1)


def feature_covariances(layer: Any, x: Float[Tensor, "rows in_features"]) -> Float[Tensor, "in_features k k"]:
    """The covariances of the features of every input over the rows, C_i.

    Args:
        layer: a `KANLinear`.
        x: rows for it.
    """
    rows, features = len(x), layer.num_bases + (layer.base_weight is not None)
    dtype, shift = working_dtype(x), None
    moments = total = torch.zeros((), dtype=dtype, device=x.device)
    for block in x.split(max(1, _BLOCK // (layer.in_features * features))):
        values = _features(layer, block).to(dtype)  # (in, rows, features)
        shift = values.detach().mean(1, keepdim=True) if shift is None else shift  # so that no digits are lost
        values = values - shift
        moments = moments + values.mT @ values
        total = total + values.sum(1)
    return (moments - total.unsqueeze(-1) * total.unsqueeze(-2) / rows) / (rows - 1)


def _features(layer: Any, x: Tensor) -> Tensor:
    features = layer.expand(x)
    if layer.base_weight is not None:
        features = torch.cat([features, layer.base_activation(x).to(features.dtype).unsqueeze(-1)], -1)
    return features.transpose(0, 1)


def attribution(stages: Sequence[Stage], x: Float[Tensor, "rows in_features"]) -> Scores:
    """The scores of all edges and nodes of a network.

    Args:
        stages: layers with their nodes.
        x: rows for the first.
    """
    measured = []
    for layer, nodes in stages:
        y = layer(x)
        measured.append((edge_deviations(layer, x), deviations(y)))
        x = y if nodes is None else nodes(y)
    layer, nodes = stages[-1]
    node = torch.eye(layer.out_features if nodes is None else nodes.num_nodes).to(measured[-1][1])
    edges, all_nodes = [], [node.mean(0)]
    for (_, nodes), (edge, deviation) in zip(reversed(stages), reversed(measured), strict=True):
        sub = node if nodes is None else nodes.of_subnodes(node)
        shares = sub / (deviation + _LEAST_DEVIATION)
        edges.append(edge * shares.mean(0).unsqueeze(-1))
        node = shares @ edge
        all_nodes.append(node.mean(0))
    return Scores(edges[::-1], all_nodes[::-1])


def deviations(values: Float[Tensor, "rows columns"]) -> Float[Tensor, " columns"]:
    """The standard deviation of every column; differentiable, with slope 0 where it is 0.

    Args:
        values: of the sample.
    """
    return _root(values.to(torch.promote_types(values.dtype, torch.float32)).var(0))


def _root(variances: Tensor) -> Tensor:
    """The square root, with slope 0 at 0."""
    positive = ~(variances <= 0)  # NaN stays NaN
    return torch.where(positive, torch.where(positive, variances, 1).sqrt(), 0)
