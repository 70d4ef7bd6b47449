"""Constant prototypes: what of the similarity follows from the parameters alone, and modules made of it.

With ignorematch, the contrast model of the product or of the mean is a linear map of [a+, n_a], the positive measures
of the input and the indicators of its absent features:

    product:  W = [theta q+ - alpha n_q, -beta q+]
    mean:     W = [theta / 2 q_present - alpha n_q, -(beta + theta / 2) q+],  b = theta / 2 s_q.

The product of prototypes and features is gone; one input costs 2 d F + 4 P F operations.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.layers.tversky.composed import composed_similarity
from zoo.layers.tversky.lifted import lift_inputs, lift_prototypes


def has_lifted_weight(similarity: str, intersection: str, difference: str) -> bool:
    """The similarity is linear in the lifted inputs; at both levels, then."""
    return similarity == "contrast" and intersection in ("product", "mean") and difference == "ignorematch"


@torch.no_grad()
def lifted_weight(
    Q: Tensor, theta: Tensor, alpha: Tensor, beta: Tensor, intersection: str
) -> tuple[Tensor, Tensor | None]:
    """Weight (P, 2 F) and bias (P,) or None, of the linear map of lifted inputs; without gradients.

    Args:
        Q: measures of the prototypes, (P, F).
        theta, alpha, beta: weights, 0-dimensional.
        intersection: "product" or "mean".
    """
    weight = Q.new_empty(Q.shape[0], 2 * Q.shape[1])
    if intersection == "product":
        return lift_prototypes(Q, theta, alpha, beta, weight), None
    half = theta / 2
    ours, theirs = weight.chunk(2, -1)
    ours.copy_(torch.where(Q > 0, half, -alpha))
    torch.clamp(Q, min=0, out=theirs)
    bias = (theirs.sum(-1) * half).to(Q.dtype)
    theirs.mul_(-(beta + half))
    return weight, bias


def lifted_similarity(A: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Similarity from a lifted weight, in the dtype of A, computed in that of the weight.

    Shapes: A (*, F), weight (P, 2 F), bias (P,) -> (*, P).
    """
    return F.linear(lift_inputs(A).to(weight.dtype), weight, bias).to(A.dtype)


class TverskyLinear(nn.Module):
    """A Tversky projection with constant prototypes, as a matrix product, a threshold and a matrix product.

    For TorchScript, `torch.export` and ONNX. The buffers are copies, without gradients.

    Shapes: (*, d) -> (*, P).

    Args:
        feature_bank: (F, d).
        weight: of lifted inputs, (P, 2 F).
        bias: (P,) or None.
        normalize: divide the inputs by their lengths first.
    """

    __constants__: ClassVar[list[str]] = ["normalize"]
    feature_bank: Tensor
    weight: Tensor
    bias: Tensor | None

    def __init__(self, feature_bank: Tensor, weight: Tensor, bias: Tensor | None = None, normalize: bool = False):
        super().__init__()
        self.normalize = normalize
        self.register_buffer("feature_bank", feature_bank.detach().clone())
        self.register_buffer("weight", weight.detach().clone())
        self.register_buffer("bias", None if bias is None else bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Similarities of x, (*, d) -> (*, P)."""
        if self.normalize:
            x = F.normalize(x, dim=-1, eps=1e-12)
        return lifted_similarity(F.linear(x, self.feature_bank), self.weight, self.bias)

    def extra_repr(self) -> str:
        features, width = self.feature_bank.shape
        return f"{width}, {self.weight.shape[0]}, {features}, normalize={self.normalize}"


class TverskySums(nn.Module):
    """A Tversky projection with constant prototypes at the set level, of any reductions.

    For TorchScript, `torch.export` and ONNX. The buffers are copies, without gradients.

    Shapes: (*, d) -> (*, P).

    Args:
        feature_bank: (F, d).
        measures: of the prototypes in every feature, (P, F).
        theta, alpha, beta: weights, 0-dimensional.
        similarity, intersection, difference: as in `tversky_similarity`.
        normalize: divide the inputs by their lengths first.
        scale: a factor of the output.
    """

    __constants__: ClassVar[list[str]] = ["similarity", "intersection", "difference", "normalize", "scale"]
    feature_bank: Tensor
    measures: Tensor
    theta: Tensor
    alpha: Tensor
    beta: Tensor

    def __init__(
        self,
        feature_bank: Tensor,
        measures: Tensor,
        theta: Tensor,
        alpha: Tensor,
        beta: Tensor,
        similarity: str,
        intersection: str,
        difference: str,
        normalize: bool = False,
        scale: float = 1.0,
    ):
        super().__init__()
        self.similarity = similarity
        self.intersection = intersection
        self.difference = difference
        self.normalize = normalize
        self.scale = scale
        given = {"feature_bank": feature_bank, "measures": measures, "theta": theta, "alpha": alpha, "beta": beta}
        for name, tensor in given.items():
            self.register_buffer(name, tensor.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Similarities of x, (*, d) -> (*, P)."""
        if self.normalize:
            x = F.normalize(x, dim=-1, eps=1e-12)
        A = F.linear(x, self.feature_bank)
        y = composed_similarity(
            A.reshape(-1, A.shape[-1]),
            self.measures,
            self.theta,
            self.alpha,
            self.beta,
            self.similarity,
            self.intersection,
            self.difference,
        )
        return (y * self.scale).view(x.shape[:-1] + y.shape[-1:])

    def extra_repr(self) -> str:
        features, width = self.feature_bank.shape
        names = f"{self.similarity!r}, {self.intersection!r}, {self.difference!r}"
        return f"{width}, {self.measures.shape[0]}, {features}, {names}, normalize={self.normalize}"


@torch.no_grad()
def linear_form(
    prototypes: Tensor,
    feature_bank: Tensor,
    theta: Tensor,
    alpha: Tensor,
    beta: Tensor,
    *,
    similarity: str,
    intersection: str,
    difference: str,
    normalize: bool,
    per_feature: bool,
    membership: str,
    scale: float = 1.0,
) -> TverskyLinear | TverskySums:
    """The projection with these parameters as matrix products, for export; what `to_linear()` of a layer returns.

    Args:
        prototypes, feature_bank: (P, d) and (F, d).
        theta, alpha, beta: weights, 0-dimensional.
        similarity, intersection, difference, normalize, per_feature, membership: as in `tversky_similarity`.
        scale: a factor of the output.

    Raises:
        ValueError: a similarity that is no matter of matrix products.
    """
    same_at_both_levels = intersection in ("product", "mean") and difference == "ignorematch"
    if membership == "soft" or (per_feature and not same_at_both_levels):
        level = f"intersection={intersection!r}, difference={difference!r} with per_feature=True"
        what = "membership='soft'" if membership == "soft" else level
        raise ValueError(
            f"to_linear() has no matrix products for {what}; it has for hard membership, with per_feature=False or "
            "with the intersections 'product' and 'mean' and the difference 'ignorematch'"
        )
    if normalize:
        prototypes = F.normalize(prototypes, dim=-1, eps=1e-12)
    measures = F.linear(prototypes, feature_bank)
    if has_lifted_weight(similarity, intersection, difference):
        weight, bias = lifted_weight(measures, theta * scale, alpha * scale, beta * scale, intersection)
        return TverskyLinear(feature_bank, weight, bias, normalize)
    return TverskySums(
        feature_bank, measures, theta, alpha, beta, similarity, intersection, difference, normalize, scale
    )
