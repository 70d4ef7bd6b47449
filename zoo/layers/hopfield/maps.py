"""Maps from scores to associations: softmax and its sparse relatives, along the last axis.

Each is the maximiser of <p, z> minus a regulariser R; scores of -inf are never associated, and where all of them are
-inf the result is 0. Every map has a closed or root-finding forward pass, and a backward pass that looks at its result
only.

    softmax      exp(z) / sum exp(z)
    sparsemax    the nearest point of the simplex, R = sum p^2 / 2                        support within z_max - 1
    entmax       R = sum (p^alpha - p) / (alpha (alpha - 1)); alpha = 1 softmax, 2 sparsemax  z_max - 1 / (alpha - 1)
    normmax      R = the alpha-norm of p                                                      within z_max - 1
    budget       entries in [0, 1] that sum to k: retrieves k patterns
    topk         softmax over the k largest scores
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from zoo.layers.hopfield.options import check_choice
from zoo.layers.hopfield.thresholds import by_rows, may_iterate, power_excess

ASSOCIATIONS = ("softmax", "sparsemax", "entmax", "normmax", "budget", "topk")
#: Options of a map beside the scores, and what they are if not given.
DEFAULTS: dict[str, dict[str, float]] = {
    "softmax": {},
    "sparsemax": {},
    "entmax": {"alpha": 1.5},
    "normmax": {"alpha": 2.0},
    "budget": {"k": 1},
    "topk": {"k": 8},
}
_BISECTIONS = 60


def associate(scores: Tensor, association: str = "softmax", *, alpha: Any = None, k: int | None = None) -> Tensor:
    """Associations from scores, along the last axis.

    Args:
        scores: (*, n); -inf forbids.
        association: one of `ASSOCIATIONS`.
        alpha: of "entmax" (1.5 if None; a number, or a tensor that broadcasts to scores, of values >= 1) and "normmax"
            (2 if None, > 1).
        k: of "budget" (1 if None) and "topk" (8 if None).

    Returns:
        Weights of the shape of scores; they sum to 1 ("budget": to k).

    Raises:
        ValueError: an unknown association, alpha or k out of range.

    Source: Martins and Astudillo, "From Softmax to Sparsemax" (2016, arXiv 1602.02068); Peters et al., "Sparse
    Sequence-to-Sequence Models" (2019, arXiv 1905.05702); Santos et al., "Hopfield-Fenchel-Young Networks" (2024,
    arXiv 2411.08590).
    """
    check_choice("association", association, ASSOCIATIONS)
    if association == "softmax":
        return masked_softmax(scores)
    if scores.dtype in (torch.float16, torch.bfloat16):  # thresholds and sums want more digits
        return associate(scores.float(), association, alpha=alpha, k=k).to(scores.dtype)
    if association == "sparsemax":
        return _Sparsemax.apply(scores)  # pyright: ignore[reportReturnType]
    if association == "entmax":
        return _entmax(scores, DEFAULTS["entmax"]["alpha"] if alpha is None else alpha)
    if association == "normmax":
        value = DEFAULTS["normmax"]["alpha"] if alpha is None else float(alpha)
        if not value > 1:
            raise ValueError(f"alpha of normmax must be greater than 1, got {value}")
        return _Normmax.apply(scores, value)  # pyright: ignore[reportReturnType]
    count = int(DEFAULTS[association]["k"]) if k is None else k
    if count < 1 or count > scores.shape[-1]:
        raise ValueError(f"k of {association} must be from 1 to the {scores.shape[-1]} patterns, got {count}")
    if association == "budget":
        return _Budget.apply(scores, count)  # pyright: ignore[reportReturnType]
    kept = scores.topk(count, -1).indices
    allowed = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, kept, True)
    return masked_softmax(scores.masked_fill(~allowed, -torch.inf))


def masked_softmax(scores: Tensor) -> Tensor:
    """Softmax that is 0, with gradient 0, where every score is -inf."""
    nothing = torch.isneginf(scores).all(-1, keepdim=True)
    return torch.softmax(scores.masked_fill(nothing, 0.0), -1).masked_fill(nothing, 0.0)


def _entmax(scores: Tensor, alpha: Any) -> Tensor:
    if not isinstance(alpha, Tensor):
        if not alpha >= 1:
            raise ValueError(f"alpha of entmax must be at least 1, got {alpha}")
        if alpha == 1:
            return masked_softmax(scores)
        if alpha == 2:
            return _Sparsemax.apply(scores)  # pyright: ignore[reportReturnType]
        return _Entmax.apply(scores, scores.new_full((), float(alpha)))  # pyright: ignore[reportReturnType]
    alpha = alpha.to(scores)
    near = alpha < 1 + 1e-4  # softmax to four digits, where root finding would divide by nothing
    sparse: Any = _Entmax.apply(scores, torch.where(near, torch.full_like(alpha, 1.5), alpha))
    return torch.where(near, masked_softmax(scores), sparse)


def _bisect(low: Tensor, high: Tensor, excess: Callable[[Tensor], Tensor]) -> Tensor:
    """The threshold at which a falling function of it passes 0."""
    for _ in range(1 if low.is_meta else _BISECTIONS):  # without values there is only a shape to find
        middle = (low + high) / 2
        above = excess(middle) > 0
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return (low + high) / 2


def _largest(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Largest score of each row, and which rows have none above -inf (their largest is given as 0)."""
    top = scores.amax(-1, keepdim=True)
    nothing = torch.isneginf(top)
    return top.masked_fill(nothing, 0.0), nothing


def _shifted(scores: Tensor) -> Tensor:
    """Scores minus the largest of each row; what is -inf stays so."""
    return scores - _largest(scores)[0]


def _shares(weights: Tensor) -> Tensor:
    """Divided by their sum, where that is not 0."""
    total = weights.sum(-1, keepdim=True)
    return weights / torch.where(total > 0, total, torch.ones_like(total))


class _Sparsemax(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(scores: Tensor) -> Tensor:
        if may_iterate(scores):
            return by_rows(scores, lambda rows, _: power_excess(_shifted(rows), 1.0)[0])
        top, nothing = _largest(scores)
        z = scores - top
        ordered = z.sort(-1, descending=True).values.clamp_min(-2.0)  # below -1 nothing is in the support
        ranks = torch.arange(1, z.shape[-1] + 1, device=z.device, dtype=z.dtype)
        sums = ordered.cumsum(-1) - 1
        size = (ranks * ordered > sums).sum(-1, keepdim=True).clamp_min(1)
        return (z - sums.gather(-1, size - 1) / size).clamp_min(0.0).masked_fill(nothing, 0.0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (p,) = ctx.saved_tensors
        return _spread(grads[0], (p > 0).to(p.dtype))


def _spread(grad: Tensor, slope: Tensor) -> Tensor:
    """(diag(s) - s s^T / sum s) grad, the Jacobian of a map whose entries move by `slope` along one threshold."""
    total = slope.sum(-1, keepdim=True)
    mean = (slope * grad).sum(-1, keepdim=True) / torch.where(total > 0, total, torch.ones_like(total))
    return slope * (grad - mean)


class _Entmax(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(scores: Tensor, alpha: Tensor) -> Tensor:
        if may_iterate(scores) and alpha.shape[-1:] in ((), (1,)) and bool((alpha <= 2).all()):
            return _entmax_rows(scores, alpha)
        top, nothing = _largest(scores)
        z = (scores - top) * (alpha - 1)
        power = 1 / (alpha - 1)

        def weights(threshold: Tensor) -> Tensor:
            return (z - threshold).clamp_min(0.0) ** power

        low = torch.full_like(top, -1.0)
        high = torch.zeros_like(top)
        threshold = _bisect(low, high, lambda t: weights(t).sum(-1, keepdim=True) - 1)
        return _shares(weights(threshold).masked_fill(nothing, 0.0))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(output, *inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None]:
        p, scores, alpha = ctx.saved_tensors
        inside = p > 0
        safe = torch.where(inside, p, torch.ones_like(p))
        slope = torch.where(inside, safe ** (2 - alpha), torch.zeros_like(p))
        grad_scores = _spread(grads[0], slope)
        if not ctx.needs_input_grad[1]:
            return grad_scores, None
        z = torch.where(inside, scores, torch.zeros_like(scores))
        surprise = -p * safe.log()
        total = slope.sum(-1, keepdim=True)
        shift = (surprise + slope * z).sum(-1, keepdim=True) / torch.where(total > 0, total, torch.ones_like(total))
        change = (surprise + slope * (z - shift)) / (alpha - 1)
        return grad_scores, (grads[0] * change).sum_to_size(alpha.shape)


def _entmax_rows(scores: Tensor, alpha: Tensor) -> Tensor:
    def fill(rows: Tensor, exponent: Tensor | float | None) -> Tensor:
        e = one if exponent is None else exponent
        u, power = power_excess(_shifted(rows) / e, e)
        return _shares(u * power)

    one = 1 / (float(alpha) - 1) if alpha.numel() == 1 else 0.0
    return by_rows(scores, fill, None if one else 1 / (alpha - 1))


class _Normmax(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(scores: Tensor, alpha: float) -> Tensor:
        if may_iterate(scores):
            exponent = alpha / (alpha - 1)
            return by_rows(scores, lambda rows, _: _shares(power_excess(_shifted(rows), exponent)[1]))
        top, nothing = _largest(scores)
        z = scores - top
        power = 1 / (alpha - 1)

        def excess(threshold: Tensor) -> Tensor:
            return ((z - threshold).clamp_min(0.0) ** (alpha * power)).sum(-1, keepdim=True) - 1

        threshold = _bisect(torch.full_like(top, -1.0), torch.zeros_like(top), excess)
        return _shares(((z - threshold).clamp_min(0.0) ** power).masked_fill(nothing, 0.0))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(output)
        ctx.alpha = inputs[1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (p,) = ctx.saved_tensors
        alpha = ctx.alpha
        # With u = z - t on the support, sum u^(alpha / (alpha - 1)) = 1 and p = u^(1 / (alpha - 1)) / its sum: first
        # the Jacobian of p in u at a free t, then that of t in z, whose weights are p itself.
        inside = p > 0
        safe = torch.where(inside, p, torch.ones_like(p))
        norm = (p**alpha).sum(-1, keepdim=True) ** (1 / alpha)
        norm = torch.where(norm > 0, norm, torch.ones_like(norm))
        slope = torch.where(inside, safe ** (2 - alpha), torch.zeros_like(p)) * norm ** (alpha - 1) / (alpha - 1)
        centred = grads[0] - (grads[0] * p).sum(-1, keepdim=True)
        back = slope * centred
        return back - p * back.sum(-1, keepdim=True), None


class _Budget(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(scores: Tensor, count: int) -> Tensor:
        if may_iterate(scores):
            return by_rows(scores, lambda rows, _: _budget(rows, count))
        return _budget(scores, count)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (p,) = ctx.saved_tensors
        return _spread(grads[0], ((p > 0) & (p < 1)).to(p.dtype)), None


def _budget(scores: Tensor, count: int) -> Tensor:
    top, nothing = _largest(scores)
    z = scores - top
    lowest = torch.where(torch.isneginf(z), torch.zeros_like(z), z).amin(-1, keepdim=True)

    def weights(threshold: Tensor) -> Tensor:
        return (z - threshold).clamp(0.0, 1.0)

    threshold = _bisect(lowest - 1, torch.zeros_like(top), lambda t: weights(t).sum(-1, keepdim=True) - count)
    p = weights(threshold)
    # The threshold exactly, from the entries between the bounds.
    between = (p > 0) & (p < 1)
    free = between.sum(-1, keepdim=True)
    full = (p >= 1).sum(-1, keepdim=True)
    total = torch.where(between, z, torch.zeros_like(z)).sum(-1, keepdim=True)
    exact = (total - (count - full)) / free.clamp_min(1)
    return torch.where(free > 0, weights(exact), p).masked_fill(nothing, 0.0)
