"""Tversky's similarity of inputs to prototypes over a bank of features."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from zoo.eager import autocasts
from zoo.layers.tversky.feature_level import feature_similarity
from zoo.layers.tversky.options import BACKENDS, MEMBERSHIPS, check_choice, check_reductions
from zoo.layers.tversky.reference import reference_similarity
from zoo.layers.tversky.set_level import set_similarity

Scalar = float | Tensor


def tversky_similarity(
    x: Float[Tensor, "*batch width"],
    prototypes: Float[Tensor, "... prototypes prototype_width"],
    feature_bank: Float[Tensor, "features bank_width"],
    *,
    theta: Scalar = 1.0,
    alpha: Scalar = 0.5,
    beta: Scalar = 0.5,
    similarity: str = "contrast",
    intersection: str = "product",
    difference: str = "ignorematch",
    normalize: bool = False,
    per_feature: bool = False,
    membership: str = "hard",
    backend: str = "auto",
) -> Float[Tensor, "..."]:
    """Similarity of every input to every prototype, both seen as fuzzy sets of features.

    The measure of an input x in feature k is x . w_k, w_k being row k of the bank; the feature is present where its
    measure is above 0. With f a sum of measures over features, A the input's features and B the prototype's,

        contrast:  S = theta f(A and B) - alpha f(A - B) - beta f(B - A)
        ratio:     S = f(A and B) / (f(A and B) + alpha f(A - B) + beta f(B - A) + 1)

    Shapes: x (*batch, d), prototypes (P, d), feature_bank (F, d) -> (*batch, P). With more axes, x (*lead, n, d) and
    prototypes (*lead, P, d) -> (*lead, n, P).

    Args:
        x: inputs.
        prototypes: what they are compared with.
        feature_bank: one feature a row.
        theta, alpha, beta: weights of what is common, of what only the input has, and of what only the prototype has.
            `theta` has no part in the ratio model.
        similarity: "contrast" or "ratio".
        intersection: what is common: "product", "min", "max", "mean", "gmean" or "softmin" of the two measures.
        difference: "ignorematch" (features that the other has not) or "substractmatch" (also what goes beyond the
            other's measure; "subtractmatch" is the same); with `per_feature` also "substractmatch_common" (only what
            goes beyond, on common features).
        normalize: divide x and prototypes by their lengths first.
        per_feature: False sums over features and then takes min, max, ... of the two sums, as the authors' library
            does; True takes them feature by feature and then sums, as the paper writes it.
        membership: "hard"; "ste", hard with the gradient of a sigmoid at the threshold; "soft", (1 + tanh(13 m)) / 2.
        backend: "auto"; "reference", composed operations (of B x P x F memory at the feature level); "compiled" and
            "triton" name a kernel for sums of minima at the feature level.

    Raises:
        ValueError: an unknown name, shapes that do not fit, or a weight of several numbers.
        TypeError: no tensors, or not of one floating type.

    Source: "Tversky Neural Networks: Psychologically Plausible Deep Learning with Differentiable Tversky Similarity"
    (2025, arXiv 2506.11035); A. Tversky, "Features of Similarity" (1977).
    """
    difference = check_reductions(similarity, intersection, difference, per_feature)
    check_choice("membership", membership, MEMBERSHIPS)
    check_choice("backend", backend, BACKENDS)
    check_rows(x, prototypes, feature_bank)
    measures, their_measures = measure(x, prototypes, feature_bank, normalize)
    theta, alpha, beta = as_scalars(x, theta=theta, alpha=alpha, beta=beta)
    how = (similarity, intersection, difference, per_feature, membership, backend)
    if prototypes.ndim == 2:
        rows = measures.reshape(-1, feature_bank.shape[0])
        return compare_measures(rows, their_measures, theta, alpha, beta, *how).view(*x.shape[:-1], prototypes.shape[0])
    lead = torch.broadcast_shapes(x.shape[:-2], prototypes.shape[:-2])
    measures = measures.expand(*lead, *measures.shape[-2:])
    their_measures = their_measures.expand(*lead, *their_measures.shape[-2:])
    return compare_measures(measures, their_measures, theta, alpha, beta, *how)


def measure(x: Tensor, prototypes: Tensor, feature_bank: Tensor, normalize: bool) -> tuple[Tensor, Tensor]:
    """Measures of inputs and prototypes in every feature: (*, F) each."""
    # type: (Tensor, Tensor, Tensor, bool) -> Tuple[Tensor, Tensor]
    if normalize:
        x, prototypes = F.normalize(x, dim=-1, eps=1e-12), F.normalize(prototypes, dim=-1, eps=1e-12)
    return F.linear(x, feature_bank), F.linear(prototypes, feature_bank)


def compare_measures(
    A: Tensor,
    Q: Tensor,
    theta: Tensor,
    alpha: Tensor,
    beta: Tensor,
    similarity: str,
    intersection: str,
    difference: str,
    per_feature: bool,
    membership: str,
    backend: str,
) -> Tensor:
    """The similarity from the measures, (*lead, n, F) and (*lead, P, F) -> (*lead, n, P), by the fastest way."""
    weights = (theta, alpha, beta)
    if backend == "reference" or membership != "hard":
        return reference_similarity(A, Q, *weights, similarity, intersection, difference, per_feature, membership)
    if per_feature:
        return feature_similarity(A, Q, *weights, similarity, intersection, difference, backend)
    return set_similarity(A, Q, *weights, similarity, intersection, difference)


def as_scalars(x: Tensor, dtype: torch.dtype | None = None, **weights: Scalar) -> tuple[Tensor, ...]:
    """Weights of the similarity as 0-dimensional tensors, beside x.

    Args:
        x: whose device and, if `dtype` is None, dtype numbers get.
        dtype: of numbers.
        weights: numbers or tensors of one number, by their names.

    Raises:
        ValueError: a tensor of several numbers.
    """
    found = []
    for name, value in weights.items():
        if not isinstance(value, Tensor):
            value = x.new_full((), value, dtype=dtype or x.dtype)
        if value.numel() != 1:
            raise ValueError(f"{name} must be one number, got a tensor {tuple(value.shape)}")
        found.append(value.reshape(()))
    return tuple(found)


def check_rows(x: Tensor, prototypes: Tensor, feature_bank: Tensor) -> None:
    """Refuse inputs, prototypes and banks that do not fit each other.

    Raises:
        ValueError: widths or numbers of axes that do not fit.
        TypeError: no tensors, or not of one floating type.
    """
    given = {"x": x, "prototypes": prototypes, "feature_bank": feature_bank}
    for name, value in given.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
        if not value.is_floating_point():
            raise TypeError(f"{name} must be of a floating type, got {value.dtype}; {name}.float() makes it one")
    if feature_bank.ndim != 2 or not feature_bank.shape[0]:
        raise ValueError(f"feature_bank must be (F, d) with at least one feature, got {tuple(feature_bank.shape)}")
    width = feature_bank.shape[1]
    if x.ndim == 0 or x.shape[-1] != width:
        raise ValueError(
            f"x and the features must be equally wide, got x {tuple(x.shape)} and features {tuple(feature_bank.shape)}"
        )
    if prototypes.ndim < 2 or prototypes.shape[-1] != width:
        raise ValueError(f"prototypes must be (P, {width}), as wide as the features; got {tuple(prototypes.shape)}")
    if prototypes.ndim > 2:
        lead, others = x.shape[:-2], prototypes.shape[:-2]
        fit = all(a == b or 1 in (a, b) for a, b in zip(reversed(lead), reversed(others), strict=False))
        if x.ndim < 2 or not fit:
            raise ValueError(
                f"prototypes with {prototypes.ndim} axes {tuple(prototypes.shape)} need x as (*lead, n, {width}) with "
                f"the same lead, got {tuple(x.shape)}"
            )
    if len({value.dtype for value in given.values()}) > 1 and not autocasts(x):
        found = ", ".join(f"{name} {value.dtype}" for name, value in given.items())
        raise TypeError(f"x, prototypes and feature_bank must be of one type, got {found}; cast what is shared, too")
