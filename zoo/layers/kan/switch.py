"""The reflectional switch basis and the linear map over it, without keeping the basis in memory.

For an input u and centres g_1..g_K of width h = 1 / inv_width

    phi_j(u) = 1 - tanh^2((u - g_j) / h) = sech^2((u - g_j) / h),        y = W phi(u),

where column K*i + j of W belongs to centre j of input feature i. The basis of T tokens is K times as large as
the tokens, and a plain implementation keeps several copies of it for the backward pass. Here it is made tile by
tile, both ways, from the tokens alone: with tau = exp(2 (u - g_j) / h), q = tau / (1 + tau) and d = 1 / (1 + tau),

    phi = 4 q d,        d phi / d u = (8 / h) q d (d - q),

and tau costs one exponential per input, because exp(2 (u - g_j) / h) = exp(2 u / h) exp(-2 g_j / h).

Source: faster-kan (A. Delis, 2024); used in MedViTV2 (2025, arXiv 2502.13693) with 8 centres on [-2, 2], h = 0.33.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from zoo.layers.eager import autocasts, must_compose, no_autocast

_BACKENDS = ("auto", "reference")
_EXPONENT_LIMIT = 40.0  # exp(40) * exp(40) is finite in float32, and the basis at that distance is below 1e-11
_TILE_ELEMENTS = 2**20  # basis values made at a time on a CPU: 4 MB in float32
_NORM_EPS = 1e-5


def switch_basis(
    u: Float[Tensor, "*batch features"], centres: Float[Tensor, " centres"], inv_width: float = 1.0
) -> Float[Tensor, "*batch features centres"]:
    """The basis as its formula says: `1 - tanh((u - g) * inv_width) ** 2`, differentiable any number of times.

    Args:
        u: inputs, usually layer-normalised.
        centres: the K fixed centres.
        inv_width: 1 / h.
    """
    # type: (Tensor, Tensor, float) -> Tensor
    return 1 - torch.tanh((u.unsqueeze(-1) - centres) * inv_width).square()


def switch_linear(
    x: Float[Tensor, "*batch features"],
    weight: Float[Tensor, "out features_x_centres"],
    centres: Float[Tensor, " centres"],
    inv_width: float = 1.0,
    *,
    norm_weight: Float[Tensor, " features"] | None = None,
    norm_bias: Float[Tensor, " features"] | None = None,
    backend: str = "auto",
) -> Float[Tensor, "*batch out"]:
    """Layer norm (if its weight is given), switch basis and linear map in one.

    Args:
        x: inputs, any number of leading dimensions.
        weight: (out, features * K), the K centres of a feature side by side.
        centres: the K centres; no gradient flows to them.
        inv_width: 1 / h.
        norm_weight: scale of a layer norm over the features (eps 1e-5); None leaves x as it is.
        norm_bias: shift of that layer norm.
        backend: "auto" makes the basis tile by tile and keeps only x for the backward pass; "reference" composes
            torch operations. "auto" itself composes where a hand-written backward cannot follow: second
            derivatives, `torch.func` transforms, forward mode, compilation, export, tracing and tensor subclasses.

    Raises:
        ValueError: unknown backend, or a weight that does not have features * K columns.
    """
    if backend not in _BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(map(repr, _BACKENDS))}, got {backend!r}")
    expected = x.shape[-1] * centres.numel()
    if weight.shape[-1] != expected:
        raise ValueError(
            f"weight has {weight.shape[-1]} columns, but {x.shape[-1]} features with {centres.numel()} centres need "
            f"{expected}; check the number of features of x (last dimension) or of the centres"
        )
    if backend == "reference" or must_compose(x, weight):
        return _composed(x, weight, centres, inv_width, norm_weight, norm_bias)
    out_shape = (*x.shape[:-1], weight.shape[0])
    if autocasts(x):
        weight = weight.to(torch.get_autocast_dtype(x.device.type))
    rows = x.reshape(-1, x.shape[-1])
    if not torch.is_grad_enabled():
        with no_autocast(x):
            return _forward_tiles(rows, weight, centres, inv_width, norm_weight, norm_bias).view(out_shape)
    out: Tensor = _SwitchLinear.apply(rows, weight, norm_weight, norm_bias, centres, inv_width)  # pyright: ignore
    return out.view(out_shape)


def _composed(
    x: Tensor,
    weight: Tensor,
    centres: Tensor,
    inv_width: float,
    norm_weight: Tensor | None,
    norm_bias: Tensor | None,
) -> Tensor:
    # type: (Tensor, Tensor, Tensor, float, Optional[Tensor], Optional[Tensor]) -> Tensor
    if norm_weight is not None:
        x = F.layer_norm(x, [x.shape[-1]], norm_weight, norm_bias, 1e-5)
    return F.linear(switch_basis(x, centres, inv_width).flatten(-2), weight)


class _Tiles:
    """The working memory of one pass: q and d for a tile of rows, made once and filled again and again."""

    def __init__(self, rows: Tensor, centres: Tensor, inv_width: float) -> None:
        self.count, self.features = rows.shape
        self.centres = centres.to(_working_dtype(rows.dtype))
        self.inv_width = inv_width
        # One exponential per input is possible while the centres are few widths from zero. Reading them costs
        # nothing on a CPU; elsewhere it would wait for the device, so there each basis takes its own exponentials.
        self.one_exponential = rows.device.type == "cpu" and (
            bool((self.centres.abs().amax() * (2 * abs(inv_width)) <= _EXPONENT_LIMIT).item())
        )
        self.factors = torch.exp(self.centres * (-2 * inv_width)).unsqueeze(0)
        width = self.features * centres.numel()
        budget = _TILE_ELEMENTS if rows.device.type == "cpu" else 16 * _TILE_ELEMENTS
        self.step = min(max(budget // max(width, 1), 256), 1024 if rows.device.type == "cpu" else self.count + 1)
        size = (min(self.step, self.count) * self.features, centres.numel())
        self.q = self.centres.new_empty(size)
        self.d = self.centres.new_empty(size)

    def spans(self) -> range:
        return range(0, self.count, self.step)

    def fill(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """q = tau / (1 + tau) and d = 1 / (1 + tau) of every input and centre, (rows * features, K)."""
        q, d = self.q[: u.numel()], self.d[: u.numel()]
        if self.one_exponential:
            e = (u * (2 * self.inv_width)).clamp_(-_EXPONENT_LIMIT, _EXPONENT_LIMIT).exp_()
            torch.mm(e.view(-1, 1), self.factors, out=q)
            torch.add(q, 1, out=d).reciprocal_()
            q.mul_(d)
        else:
            torch.sub(u.view(-1, 1), self.centres, out=q).mul_(2 * self.inv_width)
            torch.neg(q, out=d).sigmoid_()
            q.sigmoid_()
        return q, d


def _working_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _normalised(rows: Tensor, norm_weight: Tensor | None, norm_bias: Tensor | None) -> Tensor:
    rows = rows.to(_working_dtype(rows.dtype))
    if norm_weight is not None:
        bias = None if norm_bias is None else norm_bias.to(rows.dtype)
        rows = F.layer_norm(rows, rows.shape[-1:], norm_weight.to(rows.dtype), bias, _NORM_EPS)
    return rows.contiguous()


def _forward_tiles(
    rows: Tensor,
    weight: Tensor,
    centres: Tensor,
    inv_width: float,
    norm_weight: Tensor | None,
    norm_bias: Tensor | None,
) -> Tensor:
    tiles = _Tiles(rows, centres, inv_width)
    out = weight.new_empty(rows.shape[0], weight.shape[0])
    for start in tiles.spans():
        u = _normalised(rows[start : start + tiles.step], norm_weight, norm_bias)
        q, d = tiles.fill(u)
        basis = q.mul_(d).view(u.shape[0], -1).to(weight.dtype)  # a quarter of phi
        target = out[start : start + tiles.step]
        torch.addmm(target, basis, weight.t(), beta=0, alpha=4, out=target)
    return out


class _SwitchLinear(torch.autograd.Function):
    """`switch_linear` on rows; keeps x and the parameters, and makes every tile again on the way back."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        weight: Tensor,
        norm_weight: Tensor | None,
        norm_bias: Tensor | None,
        centres: Tensor,
        inv_width: float,
    ) -> Tensor:
        ctx.save_for_backward(rows, weight, norm_weight, norm_bias, centres)
        ctx.inv_width = inv_width
        with no_autocast(rows):
            return _forward_tiles(rows, weight, centres, inv_width, norm_weight, norm_bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        (grad_out,) = grads
        saved = ctx.saved_tensors  # read once: checkpointing hands each tensor out a single time
        rows, weight, norm_weight, norm_bias, centres = saved
        needed = ctx.needs_input_grad
        if torch.is_grad_enabled():  # the gradient is to be differentiated again
            inputs = [t for t, n in zip((rows, weight, norm_weight, norm_bias), needed, strict=False) if n]
            out = _composed(rows, weight, centres, ctx.inv_width, norm_weight, norm_bias)
            found = iter(torch.autograd.grad(out, inputs, grad_out, create_graph=True))
            return (*(next(found) if n else None for n in needed[:4]), None, None)
        with no_autocast(rows):
            return (*_backward_tiles(grad_out, saved, ctx.inv_width, needed), None, None)


def _backward_tiles(
    grad_out: Tensor, saved: tuple[Any, ...], inv_width: float, needed: tuple[bool, ...]
) -> tuple[Any, ...]:
    rows, weight, norm_weight, norm_bias, centres = saved
    work = _working_dtype(rows.dtype)
    tiles = _Tiles(rows, centres, inv_width)
    back = any((needed[0], needed[2], needed[3]))
    slope = torch.empty_like(tiles.q) if back else tiles.q
    ones = tiles.centres.new_full((centres.numel(),), 8 * inv_width)
    grad_rows = torch.empty_like(rows) if needed[0] else None
    # Sums over tiles are kept in the working precision: a bfloat16 sum would lose the small tiles.
    grad_weight = weight.new_zeros(weight.shape, dtype=work) if needed[1] else None
    grad_scale = None if norm_weight is None else norm_weight.new_zeros(norm_weight.shape, dtype=work)
    grad_shift = None if norm_bias is None else norm_bias.new_zeros(norm_bias.shape, dtype=work)
    for start in tiles.spans():
        span = slice(start, start + tiles.step)
        u = _normalised(rows[span], norm_weight, norm_bias)
        grad = grad_out[span].to(weight.dtype)
        q, d = tiles.fill(u)
        basis = torch.mul(q, d, out=slope[: q.shape[0]]) if back else q.mul_(d)
        if grad_weight is not None:
            tile = basis.view(u.shape[0], -1)
            if weight.dtype == work:
                grad_weight.addmm_(grad.t(), tile, alpha=4)
            else:
                grad_weight.add_(torch.mm(grad.t(), tile.to(weight.dtype)), alpha=4)
        if not back:
            continue
        basis.mul_(d.sub_(q))
        # q has been read for the last time: its memory takes the gradient of the basis.
        if weight.dtype == work:
            grad_basis = torch.mm(grad, weight, out=q.view(u.shape[0], -1))
        else:
            grad_basis = torch.mm(grad, weight).to(work)
        basis.mul_(grad_basis.view_as(basis))
        grad_u = torch.mv(basis, ones).view_as(u)
        if norm_weight is None:
            if grad_rows is not None:
                grad_rows[span] = grad_u
            continue
        _norm_backward(grad_u, rows[span].to(work), norm_weight, norm_bias, grad_rows, span, grad_scale, grad_shift)
    return (
        grad_rows,
        _returned(grad_weight, weight, needed[1]),
        _returned(grad_scale, norm_weight, needed[2]),
        _returned(grad_shift, norm_bias, needed[3]),
    )


def _returned(total: Tensor | None, parameter: Tensor | None, needed: bool) -> Tensor | None:
    return total.to(parameter.dtype) if needed and total is not None and parameter is not None else None


def _norm_backward(
    grad_u: Tensor,
    rows: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor | None,
    grad_rows: Tensor | None,
    span: slice,
    grad_scale: Tensor | None,
    grad_shift: Tensor | None,
) -> None:
    """Layer norm's gradients of one tile, added to the sums."""
    shape = rows.shape[-1:]
    scale = norm_weight.to(rows.dtype)
    shift = None if norm_bias is None else norm_bias.to(rows.dtype)
    _, mean, inv_std = torch.native_layer_norm(rows, shape, scale, shift, _NORM_EPS)
    mask = (grad_rows is not None, grad_scale is not None, grad_shift is not None)
    parts = torch.ops.aten.native_layer_norm_backward(grad_u, rows, shape, mean, inv_std, scale, shift, mask)
    if grad_rows is not None:
        grad_rows[span] = parts[0]
    if grad_scale is not None:
        grad_scale += parts[1]
    if grad_shift is not None:
        grad_shift += parts[2]
