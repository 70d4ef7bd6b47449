"""Start a KAN layer as a copy of what it replaces: curve by curve, then least squares.

The output of a layer is linear in its weight, so that the nearest copy on given rows is a ridge regression. Its basis
has K columns a feature, though: for a wide layer more columns than there are rows, and the solution of least norm
copies the rows and nothing else. What is linear in the reference is therefore copied feature by feature first,

    x_i ~ sum_k a_ik phi_k(u_i),        W_o,ik = L_oi a_ik        for the reference's linear part L,

which is a regression of K unknowns for each i, and only the rest is left to the ridge, as strongly as other rows bear.

Two layers in the place of a perceptron fc2(act(fc1(x))) need no ridge: the first copies fc1, the second has the curve
of `act` at every hidden unit. A layer norm between them would divide by the norm of the pre-activations, which
is not the same at all tokens; so these are standardised, given alternating signs and shifted by +-3, which makes their
mean and norm nearly constant, and the scale and shift of the norm take the shifts out again. Without a norm they are
scaled to fill the range of the second layer's basis.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.layers.least_squares import equations
from zoo.layers.modes import evaluating

Curve = Callable[[Tensor], Tensor]

_ROWS = 1536  # a curve of ten unknowns gains little from more
_FEWEST = 16
_REACH = 0.95  # of the half-width of the grid: 99.9 % of the values lie within
_CURVE_DAMPING = 1e-4
_EXPECTED_ROWS = 64.0  # weight of what is known of a curve beforehand, where rows are few
_DAMPINGS = (1.0, 1e-1, 1e-2, 1e-4, 1e-6)
_GRAM_COST = 1e10  # multiplications: less than a second on one core
_SHIFT = 3.0


def imitate_layer(layer: Any, reference: nn.Module, inputs: Tensor) -> bool:
    """What `KANLinear.imitate` does."""
    rows = _sample(inputs, layer)
    targets = None if rows is None else _outputs(reference, rows)
    if rows is None or targets is None or targets.shape[1] != layer.out_features:
        return False

    def change() -> None:
        values = _precise(rows)
        if not isinstance(reference, nn.Linear):
            linear = _ridge(values - values.mean(0), targets - targets.mean(0)).t()
            _fit(layer, rows, targets, linear, values)
            return
        _fit_curves(layer, rows, values, _same, reference.weight, targets)
        if len(rows) >= len(layer.solution()):  # fewer rows bear nothing more
            _fit_rest(layer, rows, targets)

    return _changed(layer, change)


def imitate_stack(stack: Any, reference: nn.Module, inputs: Tensor) -> bool:
    """What `imitate` of networks does; False where a layer is no `KANLinear`."""
    *first, last = stack.layers
    if not all(hasattr(layer, "solution") for layer in stack.layers):
        return False
    if not first:
        return imitate_layer(last, reference, inputs)
    rows = _sample(inputs, first[0])
    targets = None if rows is None else _outputs(reference, rows)
    if rows is None or targets is None or targets.shape[1] != last.out_features:
        return False

    def change() -> None:
        hidden = _pre_activations(reference, rows, targets) if len(first) == 1 else None
        if hidden is None:
            _fit_chain(first, last, rows, targets)
            return
        with evaluating(reference):  # for its activation
            _fit_perceptron(first[0], last, reference, rows, hidden, targets)

    return _changed(stack, change)


def _sample(inputs: Tensor, layer: Any) -> Tensor | None:
    """Rows of the inputs, evenly spaced, as the layer would get them; None if it cannot take them."""
    weight = layer.weight
    if inputs.is_meta or weight.is_meta or inputs.ndim < 1 or inputs.shape[-1] != layer.in_features:
        return None
    rows = inputs.detach().reshape(-1, inputs.shape[-1])
    rows = rows[:: -(-rows.shape[0] // _ROWS) or 1].to(weight)
    return rows if rows.shape[0] >= _FEWEST and rows.isfinite().all() else None


def _outputs(module: nn.Module, rows: Tensor) -> Tensor | None:
    """What the module makes of the rows in evaluation mode, float32 or float64; None if that is not one finite row
    for each.
    """
    like = next(module.parameters(), rows)
    with evaluating(module), _plainly(rows):
        try:
            found = module(rows.to(like))
        except torch.OutOfMemoryError:
            raise
        except (IndexError, RuntimeError, TypeError, ValueError):  # it wants a map, or rows of another width
            return None
    if not isinstance(found, Tensor) or found.ndim != 2 or found.shape[0] != rows.shape[0]:
        return None
    found = _precise(found).to(rows.device)
    return found if found.isfinite().all() else None


@contextmanager
def _plainly(like: Tensor) -> Iterator[None]:
    with torch.no_grad(), torch.autocast(like.device.type, enabled=False):
        yield


def _precise(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def _changed(module: nn.Module, change: Callable[[], None]) -> bool:
    """Make the change; if it fails or leaves values that are not finite, take it back."""
    before = [(parameter, parameter.detach().clone()) for parameter in module.parameters()]
    good = False
    with evaluating(module), _plainly(before[0][0]):
        try:
            change()
            good = all(bool(parameter.isfinite().all()) for parameter, _ in before)
        finally:
            if not good:
                for parameter, value in before:
                    parameter.copy_(value)
    return good


def _fit(layer: Any, rows: Tensor, targets: Tensor, linear: Tensor, arguments: Tensor) -> None:
    """Curves for the linear part of the targets in the arguments, a ridge for the rest."""
    _fit_curves(layer, rows, arguments, _same, linear, targets)
    _fit_rest(layer, rows, targets)


def _fit_perceptron(first: Any, second: Any, reference: Any, rows: Tensor, hidden: Tensor, targets: Tensor) -> None:
    """Two layers for fc2(act(fc1(x))), where `hidden` is what fc1 makes of the rows."""
    values, count = _precise(rows), first.out_features
    inner, outer = reference.fc1.weight.to(values), reference.fc2.weight.to(values)
    units, share = _units(_called(reference.act, hidden), outer, count)
    # Copies of one unit differ in sign, and so in the errors of their curves.
    phase = units + torch.arange(count, device=rows.device) // hidden.shape[1]
    hidden = hidden[:, units]
    scale, wanted = _balanced(hidden, phase, second)
    _fit_curves(first, rows, values, _same, inner[units] * scale[:, None], wanted)
    between = first(rows)
    _fit_curves(second, between, hidden, reference.act, outer[:, units] * share, targets)
    if count < reference.fc1.out_features:  # the units left out are linear to some extent
        copied, rest = second.solution(), targets - second(between)
        linear = _ridge(hidden - hidden.mean(0), rest - rest.mean(0)).t()
        _fit(second, between, rest, linear, hidden)
        second.take(copied + second.solution())


def _fit_chain(first: list[Any], last: Any, rows: Tensor, targets: Tensor) -> None:
    """Layers for a reference of which nothing is known: all but the last hand on random directions of the inputs."""
    arguments, deep = _precise(rows), rows
    values = (arguments - arguments.mean(0)) / arguments.std(0).clamp_min(1e-6)
    draw = torch.Generator().manual_seed(0)
    for layer, after in zip(first, [*first[1:], last], strict=True):
        directions = torch.randn(values.shape[1], layer.out_features, generator=draw)
        hidden = values @ directions.to(values)
        scale, wanted = _balanced(hidden, torch.arange(hidden.shape[1], device=hidden.device), after)
        linear = _ridge(arguments - arguments.mean(0), hidden).t() * scale[:, None]
        _fit_curves(layer, deep, arguments, _same, linear, wanted)
        arguments, deep = hidden, layer(deep)
    _fit(last, deep, targets, _ridge(arguments - arguments.mean(0), targets - targets.mean(0)).t(), arguments)


def _balanced(hidden: Tensor, phase: Tensor, after: Any) -> tuple[Tensor, Tensor]:
    """The hidden values times a scale, plus a shift, as the layer after them takes them best: such that their mean and
    norm over the units hardly vary, if it has a norm, and in the range of its basis, if not.
    """
    std, mean = torch.std_mean(hidden, 0)
    sign, shift = 1.0 - 2.0 * (phase % 2), _SHIFT * (1.0 - 2.0 * (phase // 2 % 2))
    scale = sign / std.clamp_min(1e-3 * std.max()).clamp_min(1e-12)
    if after.norm is None:
        scale, shift = _filling(hidden, after)
        scale = sign * scale
    return scale, scale * (hidden - mean) + shift


def _pre_activations(reference: Any, rows: Tensor, targets: Tensor) -> Tensor | None:
    """The first linear map's outputs, if the reference is fc2(act(fc1(x))) and nothing besides."""
    fc1, act, fc2 = (getattr(reference, name, None) for name in ("fc1", "act", "fc2"))
    if not (isinstance(fc1, nn.Linear) and isinstance(fc2, nn.Linear) and isinstance(act, nn.Module)):
        return None
    hidden = _outputs(fc1, rows)
    active = None if hidden is None else _outputs(act, hidden)
    if active is None or active.shape[1] != fc2.in_features:
        return None
    again = _outputs(fc2, active)
    near = again is not None and (again - targets).norm() <= 0.02 * targets.norm()  # bfloat16 allowed for
    return hidden if near else None


def _units(active: Tensor, outer: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Which hidden unit of the reference each of `count` units copies, and which share of it: the most important ones
    if they are too few, each several times if they are too many.
    """
    have = active.shape[1]
    if count < have:
        strength = active.std(0) * outer.norm(dim=0)
        units = strength.topk(count).indices.sort().values
        return units, torch.ones_like(strength[units])
    units = torch.arange(count, device=active.device) % have
    return units, 1 / units.bincount()[units].to(active.dtype)


def _fit_curves(layer: Any, rows: Tensor, arguments: Tensor, curve: Curve, linear: Tensor, targets: Tensor) -> None:
    """Let the layer compute sum_i linear[o, i] * curve(arguments[:, i]), and what constant the targets want."""
    _place(layer, rows)
    design = layer.design(rows)
    features, centres = layer.in_features, layer.num_bases
    parts = [design[:, : features * centres].view(-1, features, centres)]
    if layer.base_activation is not None:
        parts.append(design[:, features * centres :][:, :features, None])
    columns, ones = _curves(layer, rows, parts, arguments, curve)

    def spread(values: Tensor, by: Tensor) -> Tensor:
        """(features, columns a feature) times (features, outputs) in the order of the design's columns."""
        blocks = values[:, :, None] * by[:, None, :]
        return torch.cat([blocks[:, :centres].flatten(0, 1), blocks[:, centres:].flatten(0, 1)])

    solution = design.new_zeros(design.shape[1], layer.out_features)
    linear = linear.to(design).t()
    solution[: columns.numel()] = spread(columns, linear)
    average = design.mean(0)
    missing = targets.mean(0).to(design) - average @ solution
    if design.shape[1] > columns.numel():
        solution[-1] = missing
    else:
        constant = spread(ones, torch.ones_like(linear[:, :1]))
        solution += constant * (missing / (average @ constant))
    layer.take(solution)


def _curves(layer: Any, rows: Tensor, parts: list[Tensor], arguments: Tensor, curve: Curve) -> tuple[Tensor, Tensor]:
    """For each feature the combination of its columns nearest to curve(arguments), up to a constant, and the one
    nearest to 1: (features, columns a feature) each.
    """
    u = layer.normalised(rows)
    low, high = _span(layer)
    expected = torch.linspace(low, high, 33, device=u.device, dtype=u.dtype)
    weight = torch.exp(-0.5 * ((expected - (low + high) / 2) / ((high - low) / 8)).square())
    weight = (_EXPECTED_ROWS * weight / weight.sum()).double()
    known = [layer.basis(expected[:, None].expand(-1, u.shape[1]))]
    if len(parts) > 1:
        known.append(_called(layer.base_activation, _line(u, _precise(rows), expected)).unsqueeze(-1))
    values, known_values = _called(curve, arguments), _called(curve, _line(u, arguments, expected))
    found = []
    for some in torch.arange(u.shape[1], device=u.device).split(128):
        gram, moment = _moments([part[:, some] for part in parts], values[:, some], None)
        known_gram, known_moment = _moments([part[:, some] for part in known], known_values[:, some], weight)
        gram, moment = gram + known_gram, moment + known_moment
        diagonal = gram.diagonal(dim1=-2, dim2=-1)
        diagonal += _CURVE_DAMPING * diagonal.mean(-1, keepdim=True)
        with_constant = torch.linalg.solve(gram, moment)[:, :-1]
        found.append((with_constant, torch.linalg.solve(gram[:, :-1, :-1], gram[:, :-1, -1])))
    columns, ones = (torch.cat(pieces).to(u.dtype) for pieces in zip(*found, strict=True))
    return columns, ones


def _moments(parts: list[Tensor], values: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Gram matrices (features, c, c) of the parts and a constant, and their products with the values, in float64."""
    columns = torch.cat([*parts, torch.ones_like(values).unsqueeze(-1)], -1).double().transpose(0, 1)
    weighted = columns if weight is None else columns * weight[:, None]
    return weighted.mT @ columns, (weighted.mT @ values.double().t().unsqueeze(-1)).squeeze(-1)


def _line(u: Tensor, values: Tensor, at: Tensor) -> Tensor:
    """The values (n, features) as straight lines in u (n, features), read off at the given points (m,)."""
    centred, mean = u - u.mean(0), values.mean(0)
    slope = (centred * (values - mean)).sum(0) / centred.square().sum(0).clamp_min(1e-12)
    return mean + slope * (at[:, None] - u.mean(0))


def _fit_rest(layer: Any, rows: Tensor, targets: Tensor) -> None:
    """Add to the layer's solution what its design says of the targets that it does not meet."""
    design = layer.design(rows)
    layer.take(layer.solution() + _ridge(design, targets - layer(rows)))


def _ridge(features: Tensor, targets: Tensor) -> Tensor:
    """Ridge regression with the damping that serves held-out rows best, or zeros where none serves them."""
    most = int(max(256.0, (_GRAM_COST / features.shape[1]) ** 0.5))
    if features.shape[0] > most and features.shape[0] < features.shape[1]:
        step = -(-features.shape[0] // most)
        features, targets = features[::step], targets[::step]
    held = torch.arange(len(features), device=features.device) % 4 == 3
    best, least = features.new_zeros(features.shape[1], targets.shape[1]), targets[held].square().sum()
    if not held.any():
        return best
    system = equations(features[~held], targets[~held])
    for damping in _DAMPINGS:
        found = system.solve(damping).to(features)
        error = (features[held] @ found - targets[held]).square().sum()
        if error < least:
            best, least = found, error
    return best


def _same(values: Tensor) -> Tensor:
    return values


def _called(curve: Curve, values: Tensor) -> Tensor:
    like = next(curve.parameters(), values) if isinstance(curve, nn.Module) else values
    return _precise(curve(values.to(like))).to(values.device)


def _place(layer: Any, rows: Tensor) -> None:
    """Scale and shift of a layer norm such that each feature fills the range of the basis."""
    norm = layer.norm
    if not (isinstance(norm, nn.LayerNorm) and norm.elementwise_affine):
        return
    values = F.layer_norm(_precise(rows), norm.normalized_shape, eps=norm.eps)
    scale, middle = _filling(values, layer)
    norm.weight.copy_(scale)
    if norm.bias is not None:
        norm.bias.copy_(middle - scale * values.mean(0))


def _filling(values: Tensor, layer: Any) -> tuple[Tensor, float]:
    """The scale of each feature's distance from its mean, and where the mean must lie, to fill the basis's range."""
    std, mean = torch.std_mean(values, 0)
    std = std.clamp_min(1e-3 * std.max()).clamp_min(1e-6)
    distance = (values - mean).abs()
    # Few rows say little of the tails of one feature: all features together say more.
    usual = (distance / std).flatten().topk(1 + distance.numel() // 1000).values[-1]
    far = torch.maximum(distance.t().contiguous().topk(1 + len(values) // 1000).values[:, -1], usual * std)
    low, high = _span(layer)
    return _REACH * (high - low) / 2 / far, (low + high) / 2


def _span(layer: Any) -> tuple[float, float]:
    return layer.basis.span() if hasattr(layer.basis, "span") else (-1.0, 1.0)
