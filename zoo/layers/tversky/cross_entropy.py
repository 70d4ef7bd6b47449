"""Cross-entropy over Tversky similarities without the matrix of similarities.

The similarities of B inputs to P prototypes, and their gradient, are B x P numbers each; with the vocabulary of a
language model for prototypes they outweigh everything else. Here they exist for a few inputs at a time. The forward
pass turns the similarities of a chunk into its losses and their gradient, adds that up in the measures A (B x F) of
the inputs and Q (P x F) of the prototypes, and forgets it; the backward pass multiplies by what comes from above.

A constant added to all similarities of one input changes neither loss nor gradients. Without such constants, the
contrast model of a product or mean and of "ignorematch" is linear in [q+, n_q], q+ the positive measures of a prototype
and n_q its absent features:

    product:  S = [theta a+ - beta n_a, -alpha a+] . [q+, n_q]
    mean:     S = [theta/2 (1 - n_a) - beta n_a, -(alpha + theta/2) a+] . [q+, n_q]

so that a chunk takes one product of matrices forward and two backward. Any other similarity is computed chunk by chunk
as `tversky_similarity` does, with its own backward pass.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from zoo.eager import autocasts, must_compose, no_autocast
from zoo.layers.tversky.functional import Scalar, as_scalars, check_rows, compare_measures, tversky_similarity
from zoo.layers.tversky.options import (
    BACKENDS,
    MEMBERSHIPS,
    check_choice,
    check_reductions,
    check_size,
    scale_factor,
)

REDUCTIONS = ("mean", "sum", "none")
_CHUNK_ELEMENTS = 2**23  # similarities at a time on a CPU: 32 MB in float32, and as much again for their softmax


class _Options(NamedTuple):
    """What the loss is of, but for its tensors."""

    similarity: str
    intersection: str
    difference: str
    per_feature: bool
    membership: str
    backend: str
    scale: float
    ignore_index: int
    label_smoothing: float
    reduction: str
    chunk_tokens: int

    def names(self) -> tuple[str, str, str, bool, str, str]:
        """Arguments of `compare_measures` after the tensors."""
        return self[:6]

    def is_linear(self) -> bool:
        """Whether the similarity is linear in [q+, n_q]."""
        return (
            self.similarity == "contrast"
            and self.intersection in ("product", "mean")
            and self.difference == "ignorematch"
            and self.membership == "hard"
        )


def tversky_cross_entropy(
    x: Float[Tensor, "*batch width"],
    prototypes: Float[Tensor, "prototypes prototype_width"],
    feature_bank: Float[Tensor, "features bank_width"],
    target: Tensor,
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
    scale: float | str | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    chunk_tokens: int | None = None,
    backend: str = "auto",
) -> Float[Tensor, "..."]:
    """`F.cross_entropy(tversky_similarity(x, ...) * scale, target)`, in value and gradients, in far less memory.

    Shapes: x (*batch, d), prototypes (P, d), feature_bank (F, d), target (*batch) -> 0-dimensional, or (*batch) with
    `reduction="none"`. It keeps B x F and P x F numbers for the backward pass, no B x P. Matrix products are in the
    dtype of x (under autocast, in autocast's), softmax, loss and sums over inputs in float32; float64 stays.

    Args:
        x: inputs.
        prototypes: one a class.
        feature_bank: one feature a row.
        target: classes, int64.
        theta, alpha, beta, similarity, intersection, difference, normalize, per_feature, membership: see
            `tversky_similarity`.
        scale: factor of the similarities, see `TverskyProjection`; None for 1.
        ignore_index: inputs of this target do not count.
        label_smoothing: share of the target that is spread evenly over all classes.
        reduction: "mean" over the inputs that count (nan, with gradients of 0, if there are none, as in torch), "sum"
            or "none". With "none" the backward pass computes the similarities again.
        chunk_tokens: inputs at a time; None for as many as fit into 2**23 similarities on a CPU, 2**27 elsewhere.
        backend: "reference" for the composed expression; others as in `tversky_similarity`. Where a hand-written
            backward cannot follow (second derivatives, `torch.func` transforms, forward mode, compilation, export,
            tensor subclasses) it is the composed expression, with its B x P matrix, in any case.

    Raises:
        ValueError: an unknown name, shapes that do not fit, label_smoothing outside [0, 1], chunk_tokens below 1; on a
            CPU, a target that is no class (on other devices, which would have to be waited for, an assertion there).
        TypeError: x is not of a floating type, target not int64, chunk_tokens no integer.
    """
    difference = check_reductions(similarity, intersection, difference, per_feature)
    check_choice("membership", membership, MEMBERSHIPS)
    check_choice("backend", backend, BACKENDS)
    check_choice("reduction", reduction, REDUCTIONS)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must be in [0, 1], got {label_smoothing}")
    if chunk_tokens is not None:
        check_size("chunk_tokens", chunk_tokens)
    check_rows(x, prototypes, feature_bank)
    _check_target(target, x, prototypes.shape[0], ignore_index)
    names = (similarity, intersection, difference, per_feature, membership, backend)
    factor = scale_factor(scale, feature_bank.shape[0])
    options = _Options(*names, factor, ignore_index, label_smoothing, reduction, chunk_tokens or 0)
    theta, alpha, beta = as_scalars(x, _working(x.dtype), theta=theta, alpha=alpha, beta=beta)
    if normalize:
        x, prototypes = F.normalize(x, dim=-1, eps=1e-12), F.normalize(prototypes, dim=-1, eps=1e-12)
    rows, flat = x.reshape(-1, x.shape[-1]), target.reshape(-1)
    if backend == "reference" or must_compose(x, prototypes, feature_bank, theta, alpha, beta):
        loss = _composed(rows, prototypes, feature_bank, theta, alpha, beta, flat, options)
        return loss.view(target.shape) if reduction == "none" else loss
    if similarity == "contrast" and factor != 1:  # linear in its weights: the factor is theirs
        theta, alpha, beta = theta * factor, alpha * factor, beta * factor
        options = options._replace(scale=1.0)
    cast = autocasts(x)
    if cast:
        dtype = torch.get_autocast_dtype(x.device.type)
        rows, prototypes, feature_bank = rows.to(dtype), prototypes.to(dtype), feature_bank.to(dtype)
    tensors = (rows, prototypes, feature_bank, theta, alpha, beta)
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        loss: Tensor = _FusedLoss.apply(*tensors, flat, options)  # pyright: ignore
    else:
        with no_autocast(x):
            loss = _reduce(_pass(tensors, flat, options, None, (False,) * 6)[0], flat, options)
    loss = loss if cast else loss.to(x.dtype)
    return loss.view(target.shape) if reduction == "none" else loss


def _check_target(target: Tensor, x: Tensor, classes: int, ignore_index: int) -> None:
    if target.dtype != torch.int64:
        raise TypeError(f"target must be int64, got {target.dtype}; target.long() makes it so")
    if target.shape != x.shape[:-1]:
        raise ValueError(
            f"target must be {tuple(x.shape[:-1])}, a class for each input of x {tuple(x.shape)}, "
            f"got {tuple(target.shape)}"
        )
    if target.device.type != "cpu" or must_compose(target):
        return
    wrong = ((target < 0) | (target >= classes)) & (target != ignore_index)
    if bool(wrong.any()):
        where = tuple(wrong.nonzero()[0].tolist())
        raise ValueError(
            f"target must be a class from 0 to {classes - 1}, or ignore_index={ignore_index}; "
            f"got {int(target[where])} at {list(where)}"
        )


def _working(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _composed(
    x: Tensor,
    prototypes: Tensor,
    feature_bank: Tensor,
    theta: Tensor,
    alpha: Tensor,
    beta: Tensor,
    target: Tensor,
    options: _Options,
) -> Tensor:
    """The loss of rows as its definition says."""
    keywords = dict(zip(("similarity", "intersection", "difference"), options[:3], strict=True))
    S = tversky_similarity(
        x,
        prototypes,
        feature_bank,
        theta=theta,
        alpha=alpha,
        beta=beta,
        per_feature=options.per_feature,
        membership=options.membership,
        backend=options.backend,
        **keywords,
    )
    return F.cross_entropy(
        S * options.scale,
        target,
        ignore_index=options.ignore_index,
        label_smoothing=options.label_smoothing,
        reduction=options.reduction,
    )


class _FusedLoss(torch.autograd.Function):
    """The loss of rows; keeps the gradients of the summed loss by the measures, not the similarities."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        prototypes: Tensor,
        feature_bank: Tensor,
        theta: Tensor,
        alpha: Tensor,
        beta: Tensor,
        target: Tensor,
        options: _Options,
    ) -> Tensor:
        inputs = (x, prototypes, feature_bank, theta, alpha, beta)
        weights = None if options.reduction == "none" else (target != options.ignore_index).to(_working(x.dtype))
        with no_autocast(x):
            losses, grads = _pass(inputs, target, options, weights, ctx.needs_input_grad[:6])
        ctx.save_for_backward(*inputs, target, *grads)
        ctx.options = options
        return _reduce(losses, target, options)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        (grad,) = grads
        saved = ctx.saved_tensors  # read once: checkpointing hands each tensor out a single time
        x, prototypes, feature_bank, theta, alpha, beta, target, *sums = saved
        inputs = (x, prototypes, feature_bank, theta, alpha, beta)
        options, needed = ctx.options, ctx.needs_input_grad[:6]
        if torch.is_grad_enabled():  # the gradient is to be differentiated again
            wanted = [t for t, n in zip(inputs, needed, strict=True) if n]
            out = _composed(x, prototypes, feature_bank, theta, alpha, beta, target, options)
            by = iter(torch.autograd.grad(out, wanted, grad.to(out.dtype), create_graph=True, allow_unused=True))
            return (*(next(by) if n else None for n in needed), None, None)
        valid = target != options.ignore_index
        with no_autocast(x):
            if options.reduction == "none":
                weights = torch.where(valid, grad, torch.zeros_like(grad))
                sums, factor = _pass(inputs, target, options, weights, needed)[1], torch.ones_like(grad.sum())
            else:
                factor = grad / valid.sum().clamp(min=1) if options.reduction == "mean" else grad
            return (*_to_inputs(inputs, sums, factor, needed), None, None)


def _reduce(losses: Tensor, target: Tensor, options: _Options) -> Tensor:
    if options.reduction == "none":
        return losses
    total = losses.sum()
    return total if options.reduction == "sum" else total / (target != options.ignore_index).sum()


def _to_inputs(
    inputs: Sequence[Tensor], sums: Sequence[Tensor | None], factor: Tensor, needed: Sequence[bool]
) -> list[Tensor | None]:
    """Gradients by x, prototypes, feature bank and weights from those by the measures and weights, times a factor."""
    x, prototypes, feature_bank = inputs[:3]
    of_a, of_q, *of_weights = sums
    late = x.dtype == _working(x.dtype)  # a sum over many inputs may be beyond float16, its mean is not

    def ready(total: Tensor | None) -> Tensor:
        assert total is not None  # only asked for where it was needed
        return total if late else (total * factor).to(x.dtype)

    def finished(product: Tensor) -> Tensor:
        return product.mul_(factor) if late else product

    found: list[Tensor | None] = [
        finished(ready(of_a) @ feature_bank) if needed[0] else None,
        finished(ready(of_q) @ feature_bank) if needed[1] else None,
    ]
    of_bank = None
    if needed[2]:
        of_bank = finished((ready(of_a).t() @ x).addmm_(ready(of_q).t(), prototypes))
    weights = zip(of_weights, inputs[3:], strict=True)
    scalars = [None if total is None else (total * factor).to(weight.dtype) for total, weight in weights]
    return [*found, of_bank, *scalars]


def _pass(
    inputs: Sequence[Tensor],
    target: Tensor,
    options: _Options,
    weights: Tensor | None,
    needed: Sequence[bool],
) -> tuple[Tensor, list[Tensor | None]]:
    """Losses of all rows; and the gradients of their weighted sum by both measures, theta, alpha and beta.

    Args:
        inputs: x, prototypes, feature bank, theta, alpha, beta.
        weights: one a row, 0 for those that do not count; None for losses alone.
        needed: which inputs want a gradient.
    """
    x, prototypes, feature_bank, *scalars = inputs
    A, Q = F.linear(x, feature_bank), F.linear(prototypes, feature_bank)
    valid = target != options.ignore_index
    rows = _Rows(target.masked_fill(~valid, 0), valid, weights, options, A, Q)
    on_measures = [needed[0] or needed[2], needed[1] or needed[2], *needed[3:]]
    if weights is None:
        on_measures = [False] * 5
    return (_linear if options.is_linear() else _any_similarity)(A, Q, scalars, rows, options, on_measures)


class _Rows:
    """The chunks of rows, and the losses of each."""

    def __init__(
        self, target: Tensor, valid: Tensor, weights: Tensor | None, options: _Options, A: Tensor, Q: Tensor
    ) -> None:
        self.target, self.valid = target, valid
        self.weights = None if weights is None else weights.unsqueeze(-1)
        self.smoothing = options.label_smoothing
        self.work = _working(A.dtype)
        self.losses = A.new_zeros(A.shape[0], dtype=self.work)
        # The soft memberships are compared feature by feature in composed operations, on rows x P x F numbers.
        width = Q.numel() if options.per_feature and options.membership != "hard" else Q.shape[0]
        budget = _CHUNK_ELEMENTS * (1 if A.device.type == "cpu" else 16)
        self.step = options.chunk_tokens or max(budget // max(width, 1), 1)
        self.probabilities = A.new_empty(min(self.step, A.shape[0]), Q.shape[0], dtype=self.work)

    def spans(self) -> list[slice]:
        count = len(self.target)
        return [slice(start, min(start + self.step, count)) for start in range(0, count, self.step)]

    def take(self, span: slice, logits: Tensor) -> Tensor:
        """Note the losses of these rows; return their gradient by the logits, valid until the next call."""
        target = self.target[span].unsqueeze(-1)
        highest, picked = logits.amax(-1).to(self.work), logits.gather(-1, target).squeeze(-1)
        loss = -(1 - self.smoothing) * picked.to(self.work)
        if self.smoothing:
            loss -= self.smoothing * logits.mean(-1, dtype=self.work)
        grad = self.probabilities[: logits.shape[0]]
        torch.softmax(logits, -1, dtype=self.work, out=grad)
        loss += highest - grad.amax(-1).log()  # the largest probability is exp(highest - log-sum-exp)
        self.losses[span] = loss.masked_fill_(~self.valid[span], 0)
        if self.smoothing:
            grad -= self.smoothing / logits.shape[-1]
        return grad.scatter_(-1, target, grad.gather(-1, target) - (1 - self.smoothing))

    def weigh(self, span: slice) -> Tensor:
        assert self.weights is not None  # gradients are asked for only with weights
        return self.weights[span]


def _linear(
    A: Tensor, Q: Tensor, scalars: Sequence[Tensor], rows: _Rows, options: _Options, needed: Sequence[bool]
) -> tuple[Tensor, list[Tensor | None]]:
    """Losses and gradients where similarities are linear in [q+, n_q]."""
    theta, alpha, beta = scalars
    product = options.intersection == "product"
    on_common, on_absent = (theta, -alpha) if product else (theta / 2, -alpha - theta / 2)
    count, features = Q.shape
    right = Q.new_empty(count, 2 * features)
    torch.clamp(Q, min=0, out=right[:, :features])
    right[:, features:] = Q <= 0
    del Q
    slope = None  # of the similarity by a+
    if needed[0] and not any(needed[2:]):
        slope = on_absent * right[:, features:]
        if product:
            slope.addcmul_(right[:, :features], on_common.to(slope.dtype))
    work = rows.work
    of_a = A.new_zeros(A.shape, dtype=work) if needed[0] else None
    of_q = right.new_zeros(count, features, dtype=work) if needed[1] else None
    of_weights = A.new_zeros(3, dtype=work)
    logits = A.new_empty(rows.probabilities.shape)
    for span in rows.spans():
        a = A[span].relu()
        absent = (A[span] <= 0).to(a.dtype)
        common = a if product else 1 - absent
        left = on_common * common - beta * absent
        chunk = torch.mm(torch.cat((left, on_absent * a), 1), right.t(), out=logits[: a.shape[0]])
        grad = rows.take(span, chunk)
        if not any(needed):
            continue
        grad, weights = grad.to(a.dtype), rows.weigh(span)
        if of_q is not None:
            left *= weights.to(left.dtype)
            if work == left.dtype:
                of_q.addmm_(grad.t(), left)
            else:
                of_q += grad.t() @ left
        if slope is not None and of_a is not None:
            of_a[span] = (grad @ slope).to(work).mul_(weights).mul_(a > 0)
        elif any(needed[2:]):
            by_common, by_absent = (grad @ right).to(work).mul_(weights).chunk(2, 1)
            if of_a is not None:
                slopes = on_absent * by_absent
                of_a[span] = (slopes.addcmul_(by_common, on_common) if product else slopes).mul_(a > 0)
            by_alpha = (by_absent * a).sum()
            by_theta = (by_common * common).sum()
            of_weights[0] += by_theta if product else (by_theta - by_alpha) / 2
            of_weights[1] -= by_alpha
            of_weights[2] -= (by_common * absent).sum()
    if of_q is not None:
        of_q *= right[:, :features] > 0
    return rows.losses, [of_a, of_q, *(of_weights[i] if needed[2 + i] else None for i in range(3))]


def _any_similarity(
    A: Tensor, Q: Tensor, scalars: Sequence[Tensor], rows: _Rows, options: _Options, needed: Sequence[bool]
) -> tuple[Tensor, list[Tensor | None]]:
    """Losses and gradients of any similarity, each chunk with its own backward pass."""
    q, theta, alpha, beta = fixed = [
        t.detach().requires_grad_(n) for t, n in zip((Q, *scalars), needed[1:], strict=True)
    ]
    sums = [t.new_zeros(t.shape, dtype=rows.work) if n else None for t, n in zip((A, *fixed), needed, strict=True)]
    of_a, *of_rest = sums
    for span in rows.spans():
        a = A[span].detach().requires_grad_(needed[0])
        with torch.set_grad_enabled(any(needed)):
            logits = compare_measures(a, q, theta, alpha, beta, *options.names())
            if options.scale != 1:
                logits = logits * options.scale
        grad = rows.take(span, logits.detach())
        if not any(needed):
            continue
        grad.mul_(rows.weigh(span))
        wanted = [t for t in (a, *fixed) if t.requires_grad]
        found = iter(torch.autograd.grad(logits, wanted, grad.to(logits.dtype), allow_unused=True))
        if of_a is not None:
            of_a[span] = next(found)
        for total in of_rest:
            if total is not None and (part := next(found)) is not None:  # theta has no part in a ratio
                total += part
    return rows.losses, sums
