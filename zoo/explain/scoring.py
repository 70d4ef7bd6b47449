"""How much every feature of a table matters to a network that begins with a KAN layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from zoo.layers.kan import KANLinear
from zoo.layers.kan.feature_scores import METHODS, Loss, default_loss, normalized, score_features
from zoo.layers.modes import evaluating
from zoo.naming import did_you_mean

#: Layers that may stand before the KAN: each of their outputs is of one input.
_FEATURE_WISE = (nn.modules.batchnorm._BatchNorm,)


def feature_scores(
    model: nn.Module,
    x: Tensor,
    y: Tensor | None = None,
    *,
    method: str = "sensitivity",
    normalize: bool = True,
    loss: Loss | None = None,
) -> Tensor:
    """A number for every input of a KAN: how much it matters to what the network computes on some rows.

    With the curves phi_oi of the first layer, its coefficients c and scales s, the outputs f of the whole network, and
    rows n:

    | method | score of feature i |
    |---|---|
    | `"l1"` | mean over n, o of \\|phi_oi(x_ni)\\| |
    | `"l2"` | square root of the mean over n, o of phi_oi(x_ni)² |
    | `"coef_l1"` | sum over o, j of \\|s_oi c_oij\\| |
    | `"coef_l2"` | square root of the sum over o, j of (s_oi c_oij)² |
    | `"sensitivity"` | mean over n of \\|d sum_o \\|f_o(x_n)\\| / d x_ni\\| |
    | `"knockout"` | loss of the network without the curves of feature i, minus its loss; at least 0 |

    The paper describes the coefficient norms under the names KAN-L1 and KAN-L2, and its code computes `"l1"` and
    `"l2"`. What stands before the layer, such as a standardisation, is part of the network, but sensitivities are to
    what the layer sees: their features have no units.

    Args:
        model: a `KAN`, a `KANLinear`, or any module that brings its rows to such a layer feature by feature: a
            Sequential, `kan_tabular`. It is called in evaluation mode.
        x: (rows, features).
        y: targets of the rows, for the knock-out: class numbers (integers), or a number for every output.
        method: one of those above.
        normalize: divide the scores by their sum; scores that are all 0 stay so. False: as they come, and knock-outs
            of features without which the network does better are negative.
        loss: for the knock-out, (output, y) -> a mean over rows. Default: cross-entropy or mean squared error,
            whichever fits y.

    Returns:
        (features,).

    Raises:
        ValueError: an unknown method; y missing for the knock-out, or of another number of rows; x with NaN or
            infinity, without rows or not two-dimensional; a model that does not begin with a KAN layer.
        TypeError: x is no floating tensor.

    Source: KAN feature selection (2025, arXiv 2509.23366).
    """
    if method not in METHODS:
        choices = ", ".join(map(repr, METHODS))
        raise ValueError(f"method must be one of {choices}, got {method!r}{did_you_mean(method, METHODS)}")
    _check_rows(x, y, method)
    layer = _first_layer(model, x)
    scores = score_features(model, layer, x, y, method, loss or default_loss)
    return normalized(scores) if normalize else scores


def _check_rows(x: Any, y: Tensor | None, method: str) -> None:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"x must be a floating tensor, got {kind}; torch.tensor(x, dtype=torch.float32) makes one")
    if x.ndim != 2 or not len(x):
        raise ValueError(f"x must have the shape (rows, features) with one row at least, got {tuple(x.shape)}")
    if not x.isfinite().all():
        row, feature = (~x.isfinite()).nonzero()[0].tolist()
        raise ValueError(f"x must be finite, x[{row}, {feature}] is {float(x[row, feature])}")
    if method == "knockout" and y is None:
        raise ValueError("method='knockout' compares losses and needs the targets y")
    if y is not None and len(y) != len(x):
        raise ValueError(f"y must have a target for each of the {len(x)} rows of x, got {len(y)}")


@torch.no_grad()
def _first_layer(model: nn.Module, x: Tensor) -> KANLinear:
    """The KAN layer that the rows reach first, feature by feature."""
    called: list[nn.Module] = []
    hooks = [
        module.register_forward_pre_hook(lambda m, _: called.append(m))
        for module in model.modules()
        if isinstance(module, KANLinear) or (list(module.parameters()) and not list(module.children()))
    ]
    try:
        with evaluating(model):
            model(x[:1])
    finally:
        for hook in hooks:
            hook.remove()
    first = next((m for m in called if not isinstance(m, _FEATURE_WISE)), None)
    if not isinstance(first, KANLinear):
        found = "has no layer with parameters" if first is None else f"begins with {type(first).__name__}"
        raise ValueError(
            f"the scores are of a network whose first layer is a KAN layer (KANLinear); {type(model).__name__} {found}"
        )
    if first.in_features != x.shape[1]:
        raise ValueError(
            f"x has {x.shape[1]} features, and the first KAN layer sees {first.in_features}: what stands before it "
            "must keep the features"
        )
    return first
