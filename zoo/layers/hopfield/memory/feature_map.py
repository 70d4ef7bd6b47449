"""A linear map after which the patterns of a memory lie apart (U-Hop)."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from zoo.layers.hopfield.options import check_tensors, positive_int


def learn_feature_map(
    stored: Float[Tensor, "patterns dim"], *, steps: int = 100, lr: float = 1.0, batch_size: int = 4096
) -> Float[Tensor, "dim dim"]:
    """Learn a linear map Phi that spreads the patterns over the sphere, for `retrieve(..., feature_map=Phi)`.

        minimise  log mean_{i<j} exp(-2 |u_i - u_j|^2),   u_i = Phi x_i / |Phi x_i|

    by gradient descent from the identity, the rate divided by sqrt(i + 1) after step i. Of the maps on the way, the one
    of the smallest loss.

    Args:
        stored: patterns, at least two.
        steps: gradient steps at most; the rate falls so fast that after some twenty nothing moves.
        lr: rate of the first step.
        batch_size: most patterns that a step compares; of more, each step draws so many.

    Returns:
        Phi (dim, dim) in the dtype of the patterns, without gradient.

    Raises:
        ValueError: fewer than two patterns, steps or batch_size out of range.
        TypeError: patterns of integers.

    Source: Wu et al., "Uniform Memory Retrieval with Larger Capacity for Modern Hopfield Models" (2024, arXiv
    2404.03827).
    """
    check_tensors(stored=stored)
    if not stored.is_floating_point():
        raise TypeError(f"stored must be of a floating dtype to learn from, got {stored.dtype}")
    positive_int("steps", steps)
    if len(stored) < 2 or positive_int("batch_size", batch_size) < 2:
        raise ValueError(f"at least two patterns must be compared, got {min(len(stored), batch_size)}")
    stored = stored.detach()
    phi = torch.eye(stored.shape[1], device=stored.device, dtype=stored.dtype)
    best, lowest, rate = phi, math.inf, lr
    for step in range(steps + 1):
        rate /= math.sqrt(step + 1)
        batch = stored
        if len(stored) > batch_size:
            batch = stored[torch.randperm(len(stored), device=stored.device)[:batch_size]]
        with torch.enable_grad():
            phi.requires_grad_()
            loss = uniformity(batch @ phi.t())
            (gradient,) = torch.autograd.grad(loss, phi)
        phi = phi.detach()
        if float(loss.detach()) < lowest:
            best, lowest = phi, float(loss.detach())
        if rate < torch.finfo(phi.dtype).eps:  # nothing moves any more
            break
        phi = phi - rate * gradient
    return best


def uniformity(features: Float[Tensor, "patterns dim"]) -> Float[Tensor, ""]:
    """log mean_{i<j} exp(-2 |u_i - u_j|^2) of the directions u of the features; lower is more evenly spread."""
    u = F.normalize(features, dim=-1)
    exponents = 4 * (u @ u.t()) - 4  # -2 |u_i - u_j|^2 of unit vectors
    itself = torch.eye(len(u), device=u.device, dtype=torch.bool)
    pairs = len(u) * (len(u) - 1)
    return exponents.masked_fill(itself, -torch.inf).flatten().logsumexp(0) - math.log(pairs)
