"""How much every input of a network that begins with a KAN layer matters: six scores of feature selection."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from zoo.layers.kan.linear import KANLinear
from zoo.layers.modes import evaluating

Loss = Callable[[Tensor, Tensor], Tensor]

METHODS = ("l1", "l2", "coef_l1", "coef_l2", "sensitivity", "knockout")
_BLOCK = 2**20  # numbers held at a time


def score_features(
    net: nn.Module, layer: KANLinear, x: Tensor, y: Tensor | None, method: str, loss: Loss
) -> Float[Tensor, " in_features"]:
    """Scores of the inputs of a layer in a network, as they come: not normalised, knock-outs not clipped.

    The network is in evaluation mode meanwhile and its gradients are left as they are.

    Args:
        net: called on x, and calls `layer` once.
        layer: the first KAN layer.
        x: rows for the network.
        y: targets of the rows; only the knock-out looks at them.
        method: of `METHODS`; what each computes is said at `curve_norms`, `coefficient_norms`, `sensitivities` and
            `knockouts`.
        loss: of the knock-out: (output, y) -> a mean over the rows.

    Source: KAN feature selection (2025, arXiv 2509.23366).
    """
    with evaluating(net):
        if method == "knockout":
            if y is None:
                raise ValueError("method='knockout' compares losses and needs the targets y")
            return knockouts(net, layer, x, y, loss)
        if method == "sensitivity":
            return sensitivities(net, layer, x)
        if method.startswith("coef_"):
            return coefficient_norms(layer, method)
        return curve_norms(net, layer, x, method)


@torch.no_grad()
def curve_norms(net: nn.Module, layer: KANLinear, x: Tensor, method: str) -> Float[Tensor, " in_features"]:
    """mean_no |phi_oi(x_ni)| ("l1") or sqrt(mean_no phi_oi(x_ni)^2) ("l2") over rows n and outputs o of the layer."""
    weight, base_weight = layer.scaled_weight(), layer.masked_base_weight()
    totals = weight.new_zeros(layer.in_features, dtype=torch.float64)
    for rows in x.split(_block_size(layer)):
        u, _, _ = _run(net, layer, rows)
        bases, base = _parts(layer, u)
        step = max(1, _BLOCK // (len(u) * layer.out_features))
        for block in torch.arange(layer.in_features, device=u.device).split(step):
            curves = torch.einsum("nik,oik->nio", bases[:, block], weight[:, block].to(bases.dtype))
            if base is not None and base_weight is not None:
                curves = curves + base[:, block, None] * base_weight[:, block].t()
            sizes = curves.abs() if method == "l1" else curves.square()
            totals[block] += sizes.sum((0, 2), dtype=torch.float64)
    means = totals / (len(x) * layer.out_features)
    return (means if method == "l1" else means.sqrt()).to(weight.dtype)


@torch.no_grad()
def coefficient_norms(layer: KANLinear, method: str) -> Float[Tensor, " in_features"]:
    """sum_oj |s_oi c_oij| ("coef_l1") or sqrt(sum_oj (s_oi c_oij)^2) ("coef_l2"): of the curves without their base."""
    by_feature = layer.scaled_weight().transpose(0, 1).flatten(1)
    return torch.linalg.vector_norm(by_feature, ord=1 if method == "coef_l1" else 2, dim=1)


def sensitivities(net: nn.Module, layer: KANLinear, x: Tensor) -> Float[Tensor, " in_features"]:
    """mean_n |d sum_o |f_o| / d u_ni| over rows n, with the outputs f of the whole network and u what the layer sees.

    Of a network that begins with the layer u is x. After a standardisation u has no unit, so that the scores of
    features in different units can be compared.
    """
    total = layer.weight.new_zeros(layer.in_features, dtype=torch.float64)
    seen: list[Tensor] = []

    def follow(_: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        seen.append(given[0].detach().clone().requires_grad_())
        return seen[-1], *given[1:]

    handle = layer.register_forward_pre_hook(follow)
    try:
        with torch.enable_grad():
            for rows in x.split(_block_size(layer)):
                seen.clear()
                (slopes,) = torch.autograd.grad(net(rows).abs().sum(), seen[-1:])
                total += slopes.abs().sum(0, dtype=torch.float64)
    finally:
        handle.remove()
    return (total / len(x)).to(layer.weight.dtype)


@torch.no_grad()
def knockouts(net: nn.Module, layer: KANLinear, x: Tensor, y: Tensor, loss: Loss) -> Float[Tensor, " in_features"]:
    """loss(f without the curves of input i) - loss(f): negative where the network does better without it.

    The layer without them is the layer minus them: its outputs are computed once, and only the rest runs for every
    input.
    """
    weight, base_weight = layer.scaled_weight(), layer.masked_base_weight()
    deltas = weight.new_zeros(layer.in_features, dtype=torch.float64)
    size = _block_size(layer)
    for rows, targets in zip(x.split(size), y.split(size), strict=True):
        u, whole, output = _run(net, layer, rows)
        bases, base = _parts(layer, u)
        full = loss(output, targets)
        for i in range(layer.in_features):
            curves = bases[:, i] @ weight[:, i].to(bases.dtype).t()
            if base is not None and base_weight is not None:
                curves = curves + base[:, i, None] * base_weight[:, i]
            with _answering(layer, whole - curves.to(whole.dtype)):
                deltas[i] += (loss(net(rows), targets) - full).double() * len(rows)
    return (deltas / len(x)).to(weight.dtype)


def default_loss(output: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of logits where y are class numbers and there are several outputs, else the mean squared error.

    Raises:
        ValueError: y has another number of targets than the outputs, or numbers of classes that there are not.
    """
    if not y.is_floating_point() and output.shape[-1] > 1 and y.ndim == 1:
        if y.numel() and not 0 <= int(y.min()) <= int(y.max()) < output.shape[-1]:
            raise ValueError(
                f"y must be class numbers from 0 to {output.shape[-1] - 1}, got {int(y.min())} to {int(y.max())}"
            )
        return F.cross_entropy(output, y.long())
    if y.numel() != output.numel():
        raise ValueError(
            f"y of shape {tuple(y.shape)} and type {y.dtype} are no targets for outputs of shape "
            f"{tuple(output.shape)}: give class numbers as integers, a number for every output, or a loss"
        )
    return F.mse_loss(output, y.to(output.dtype).reshape(output.shape))


def normalized(scores: Float[Tensor, " in_features"]) -> Float[Tensor, " in_features"]:
    """The scores with 0 for those below it, divided by their sum; all 0 stays so."""
    scores = scores.clamp_min(0)
    total = scores.sum()
    return scores / total if total > 0 else scores


def _block_size(layer: KANLinear) -> int:
    """Rows whose basis functions are held at a time."""
    return max(1, _BLOCK // (layer.in_features * layer.num_bases))


def _run(net: nn.Module, layer: KANLinear, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What the layer is given and gives when the network sees the rows, and what the network gives."""
    seen: list[tuple[Tensor, Tensor]] = []

    def note(_: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        seen.append((given[0], made))

    handle = layer.register_forward_hook(note)
    try:
        output = net(rows)
    finally:
        handle.remove()
    return *seen[-1], output


def _parts(layer: KANLinear, u: Tensor) -> tuple[Tensor, Tensor | None]:
    """Basis functions (n, in, K) and activated inputs (n, in)."""
    return layer.expand(u), None if layer.base_activation is None else layer.base_activation(u)


@contextmanager
def _answering(layer: KANLinear, answer: Tensor) -> Iterator[None]:
    """The layer gives the answer, whatever it is given."""
    setattr(layer, "forward", lambda _: answer)  # noqa: B010
    try:
        yield
    finally:
        delattr(layer, "forward")
