"""The KAN layer as a function: composed of torch operations, or tile by tile with a backward pass of its own."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from zoo.eager import autocasts, must_compose, no_autocast
from zoo.layers.kan.options import check_choice
from zoo.layers.kan.tiles import Tiles, multiply, pull_back

BACKENDS = ("auto", "reference")  # of every basis
Expand = Callable[[Tensor], Tensor]


class Norm(NamedTuple):
    """A layer norm over the inputs."""

    weight: Tensor | None
    bias: Tensor | None
    eps: float


def kan_linear(
    x: Float[Tensor, "*batch in_features"],
    weight: Float[Tensor, "out in_features bases"],
    basis: nn.Module,
    *,
    norm: nn.Module | None = None,
    edge_scale: Float[Tensor, "out in_features"] | None = None,
    base_weight: Float[Tensor, "out in_features"] | None = None,
    base_activation: Expand | None = None,
    bias: Float[Tensor, " out"] | None = None,
    backend: str = "auto",
) -> Float[Tensor, "*batch out"]:
    """y_o = sum_ij s_oi c_oij phi_j(norm(x)_i) + sum_i w_oi sigma(x_i) + b_o.

    Args:
        x: inputs, any number of leading dimensions.
        weight: c.
        basis: a module (*, in_features) -> (*, in_features, K) in float32 or float64, see `Basis`.
        norm: what the inputs of the basis pass first.
        edge_scale: s; 1 if None.
        base_weight, base_activation: w and sigma; no base branch if None.
        bias: b.
        backend: "auto" makes the basis tile by tile and keeps only x for the backward pass; "reference" composes
            torch operations. "auto" itself composes where a hand-written backward cannot follow: second
            derivatives, `torch.func` transforms, forward mode, compilation, export, tracing, tensor subclasses, and a
            basis that has no tiles or learns something itself. "compiled" is "auto" with the tiles of B-splines over
            even knots filled by a C file, on a CPU; it needs a C compiler at its first call.

    Raises:
        ValueError: an unknown backend, a compiled one of another basis than B-splines; a basis that gives another
            shape than (*, in_features, K).
        RuntimeError: a compiled backend, and no C compiler.
    """
    check_backend(backend, basis)
    layer_norm = _as_layer_norm(norm, x.shape[-1])
    tiles = None
    if backend != "reference" and not must_be_composed(x, weight):
        tiles = _tiles(basis, x, "compiled_tiles" if backend == "compiled" else "tiles")
    if tiles is None:
        y = composed(x, weight, edge_scale, basis, norm if layer_norm is None else layer_norm)
    elif layer_norm is None and norm is not None:
        y = fast_linear(normalised(x, norm), weight, edge_scale, basis, tiles, None, x.dtype)
    else:
        y = fast_linear(x, weight, edge_scale, basis, tiles, layer_norm)
    if base_activation is not None and base_weight is not None:
        return y + F.linear(base_activation(x), base_weight, bias)
    return y if bias is None else y + bias.to(y.dtype)


def check_backend(backend: str, basis: nn.Module) -> str:
    """The backend, if there is such a one for the basis.

    Raises:
        ValueError: there is not.
    """
    if backend == "compiled" and not hasattr(basis, "compiled_tiles"):
        raise ValueError(f"backend='compiled' is for B-splines, the basis is a {type(basis).__name__}: use 'auto'")
    return check_choice("backend", backend, (*BACKENDS, "compiled"))


def normalised(x: Tensor, norm: nn.Module | Norm | None) -> Tensor:
    """The inputs of the basis, in float32 or float64."""
    work = torch.float64 if x.dtype == torch.float64 else torch.float32
    with no_autocast(x):
        if isinstance(norm, Norm):
            scale, shift = (None if p is None else p.to(work) for p in norm[:2])
            return F.layer_norm(x.to(work), x.shape[-1:], scale, shift, norm.eps)
        return (x if norm is None else norm(x)).to(work)


def composed(
    x: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    expand: Expand,
    norm: nn.Module | Norm | None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """The sum over the functions in torch operations, its product in `dtype` if given.

    Args:
        x: inputs (*, in).
        weight, scale: (out, in, K) and (out, in) or None.
        expand: u -> phi(u), (*, in) -> (*, in, K).
        norm: x -> u.
        dtype: None for that of x, or of autocast.
    """
    with no_autocast(x):
        bases = checked_bases(expand, normalised(x, norm), weight.shape[-1]).flatten(-2)
        weight = (weight if scale is None else weight * scale.unsqueeze(-1)).flatten(1)
    if dtype is not None:
        return F.linear(bases.to(dtype), weight.to(dtype))
    return F.linear(bases.to(x.dtype), weight)


def checked_bases(expand: Expand, u: Tensor, num_bases: int) -> Tensor:
    """The functions of u, phi(u).

    Raises:
        ValueError: they have another shape than (*, in, K), which broadcasting might hide.
    """
    bases, wanted = expand(u), (*u.shape, num_bases)
    if bases.shape != wanted:
        raise ValueError(
            f"a basis must give (*, in_features, num_bases) = {wanted} for x of the shape {tuple(u.shape)}, "
            f"{type(expand).__name__} gave {tuple(bases.shape)}"
        )
    return bases


def must_be_composed(x: Tensor, weight: Tensor) -> bool:
    """No backward pass of our own can follow, or the types do not fit together."""
    return must_compose(x, weight) or x.is_meta or not (autocasts(x) or x.dtype == weight.dtype)


def fast_linear(
    x: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    expand: Expand,
    tiles: Tiles,
    norm: Norm | None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """The same as `composed`, tile by tile.

    Args:
        x, weight, scale, expand, norm: see `composed`.
        tiles: of the basis.
        dtype: of the product outside of autocast; that of x if None.
    """
    if autocasts(x):
        dtype = torch.get_autocast_dtype(x.device.type)
    rows = x.reshape(-1, x.shape[-1])
    plan = _Plan(expand, tiles, 0.0 if norm is None else norm.eps, norm is not None, dtype or x.dtype)
    norm_weight, norm_bias = (None, None) if norm is None else (norm.weight, norm.bias)
    run = _FastLinear.apply if torch.is_grad_enabled() else _forward
    y: Tensor = run(rows, weight, scale, norm_weight, norm_bias, plan)  # pyright: ignore[reportAssignmentType]
    return y.view(*x.shape[:-1], weight.shape[0])


class _Plan(NamedTuple):
    """What is no tensor among the arguments of the fast path."""

    expand: Expand
    tiles: Tiles
    eps: float
    normed: bool
    dtype: torch.dtype

    def norm(self, weight: Tensor | None, bias: Tensor | None) -> Norm | None:
        return Norm(weight, bias, self.eps) if self.normed else None


def _as_layer_norm(norm: nn.Module | None, in_features: int) -> Norm | None:
    if type(norm) is nn.LayerNorm and norm.normalized_shape == (in_features,):
        return Norm(norm.weight, norm.bias, norm.eps)
    return None


def _tiles(basis: nn.Module, x: Tensor, kind: str) -> Tiles | None:
    """The tiles of a basis that has some, and learns nothing by gradients."""
    make = getattr(basis, kind, None)
    if make is None or any(t.requires_grad for t in (*basis.parameters(), *basis.buffers())):
        return None
    return make(torch.float64 if x.dtype == torch.float64 else torch.float32)


def _forward(
    rows: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    norm_weight: Tensor | None,
    norm_bias: Tensor | None,
    plan: _Plan,
) -> Tensor:
    with no_autocast(rows):
        u = normalised(rows, plan.norm(norm_weight, norm_bias))
        return multiply(u, weight, scale, plan.tiles, plan.dtype)


class _FastLinear(torch.autograd.Function):
    """`fast_linear` on rows; keeps x and the parameters, and makes every tile again on the way back."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Tensor:
        *tensors, ctx.plan = args
        ctx.save_for_backward(*tensors)
        return _forward(*args)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        (grad,) = grads
        saved = ctx.saved_tensors  # read once: checkpointing hands each tensor out a single time
        needed = ctx.needs_input_grad[:5]
        with no_autocast(saved[0]):
            if not torch.is_grad_enabled():
                return (*_backward(grad, saved, needed, ctx.plan), None)
            # The gradient is to be differentiated again.
            rows, weight, scale, norm_weight, norm_bias = saved
            plan: _Plan = ctx.plan
            y = composed(rows, weight, scale, plan.expand, plan.norm(norm_weight, norm_bias), plan.dtype)
            inputs = [tensor for tensor, wanted in zip(saved, needed, strict=True) if wanted]
            found = iter(torch.autograd.grad(y, inputs, grad, create_graph=True))
            return (*(next(found) if wanted else None for wanted in needed), None)


def _backward(grad: Tensor, saved: tuple[Any, ...], needed: tuple[bool, ...], plan: _Plan) -> tuple[Tensor | None, ...]:
    rows, weight, scale, norm_weight, norm_bias = saved
    u = rows.to(torch.float64 if rows.dtype == torch.float64 else torch.float32)
    before, statistics = u, ()
    if plan.normed:
        norm_weight, norm_bias = (None if p is None else p.to(u.dtype) for p in (norm_weight, norm_bias))
        u, *statistics = torch.native_layer_norm(before, before.shape[-1:], norm_weight, norm_bias, plan.eps)
    of_x, of_weight, of_scale, *of_norm = needed
    found = pull_back(
        grad.to(plan.dtype).contiguous(),
        u,
        weight,
        scale,
        plan.tiles,
        (of_x or any(of_norm), of_weight, of_scale),
    )
    grad_u, grad_weight, grad_scale = found
    of_parts: tuple[Tensor | None, ...] = (grad_u, None, None)
    if plan.normed and grad_u is not None:
        wanted = [of_x, *of_norm]
        of_parts = torch.ops.aten.native_layer_norm_backward(
            grad_u, before, before.shape[-1:], *statistics, norm_weight, norm_bias, wanted
        )
    results = (of_parts[0], grad_weight, grad_scale, *of_parts[1:])
    return tuple(
        result.to(tensor.dtype) if wanted and result is not None else None
        for result, tensor, wanted in zip(results, saved, needed, strict=True)
    )
