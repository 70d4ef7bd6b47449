"""Energies of Hopfield boosting: how much more an input is like one memory than like another."""

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from zoo.layers.hopfield.memory.retrieval import recall


def memory_energy(
    x: Float[Tensor, "*inputs dim"], memory: Shaped[Tensor, "patterns dim"], *, beta: float = 4.0
) -> Float[Tensor, "*inputs"]:
    """How unlike a memory an input is:  E(x) = -log(mean_i exp(beta cos(x, m_i))) / beta,  from -1 to 1.

    Reads a memory as `retrieve` does, any number of patterns chunk by chunk if there are no gradients.

    Shapes: (*, dim), (N, dim) -> (*).

    Args:
        x: features.
        memory: features to compare with.
        beta: inverse temperature; 4 for CIFAR-10 in the paper.

    Raises:
        ValueError, TypeError: as `retrieve`.

    Source: Hofmann et al., "Energy-based Hopfield Boosting for Out-of-Distribution Detection" (2024, arXiv 2405.08766).
    """
    found = recall(x, memory, beta=beta, similarity="cosine")
    return ((math.log(len(memory)) - found.potential) / beta).to(x.dtype)


def border_energy(
    x: Float[Tensor, "*inputs dim"],
    inside: Shaped[Tensor, "inliers dim"],
    outside: Shaped[Tensor, "outliers dim"],
    *,
    beta: float = 4.0,
) -> Float[Tensor, "*inputs"]:
    """How far from the border between two memories an input lies: 0 on it, growing to both sides.

        border = E_in + E_out - 2 E_union,   E_union = -logaddexp(-beta E_in, -beta E_out) / beta + log(2) / beta

    This is 2 log(cosh(beta (E_in - E_out) / 2)) / beta. Training that moves inputs away from the border subtracts
    its mean from the loss, times 0.5 in the paper.

    Shapes: (*, dim), (N, dim), (M, dim) -> (*).

    Args:
        x: features.
        inside, outside: memories of what belongs and of what does not.
        beta: inverse temperature.

    Raises:
        ValueError, TypeError: as `retrieve`.

    Source: as `memory_energy`.
    """
    within, without = memory_energy(x, inside, beta=beta), memory_energy(x, outside, beta=beta)
    union = (math.log(2) - torch.logaddexp(-beta * within, -beta * without)) / beta
    return within + without - 2 * union


def boosting_score(
    x: Float[Tensor, "*inputs dim"],
    inside: Shaped[Tensor, "inliers dim"],
    outside: Shaped[Tensor, "outliers dim"],
    *,
    beta: float = 4.0,
) -> Float[Tensor, "*inputs"]:
    """Out-of-distribution score E_in - E_out: high for what is more like the outliers.

    Arguments, shapes and errors as `border_energy`.
    """
    return memory_energy(x, inside, beta=beta) - memory_energy(x, outside, beta=beta)
