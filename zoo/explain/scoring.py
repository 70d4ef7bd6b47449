"""How much every feature of a table matters to a network that begins with a KAN layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from zoo.explain.finding import check_floating, check_module
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
        x: (rows, features), or (rows, ...) for a model that flattens them, such as `kan_bspline`: a pixel is a feature.
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
            infinity, or without rows; a model that does not begin with a KAN layer.
        TypeError: the model is no torch module, x no floating tensor, y no tensor.

    Source: KAN feature selection (2025, arXiv 2509.23366).
    """
    if method not in METHODS:
        choices = ", ".join(map(repr, METHODS))
        raise ValueError(f"method must be one of {choices}, got {method!r}{did_you_mean(method, METHODS)}")
    check_module(model)
    _check_rows(x, y, method)
    layer = _first_layer(model, x)
    scores = score_features(model, layer, x, y, method, loss or default_loss)
    return normalized(scores) if normalize else scores


def _check_rows(x: Any, y: Tensor | None, method: str) -> None:
    check_floating(x)
    if x.ndim < 2 or not len(x):
        raise ValueError(f"x must have the shape (rows, features) with one row at least, got {tuple(x.shape)}")
    if method == "knockout" and y is None:
        raise ValueError("method='knockout' compares losses and needs the targets y")
    if y is not None and not isinstance(y, Tensor):
        raise TypeError(
            f"y must be a tensor, got {type(y).__name__}: torch.tensor(y) makes one of numbers, and "
            "torch.tensor(kan.classes_.searchsorted(y)) class numbers of labels"
        )
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
    except Exception as error:
        first = _begins_with(called)
        if first is None or isinstance(first, KANLinear):
            raise
        raise _not_a_kan(model, first) from error  # no other x would do
    finally:
        for hook in hooks:
            hook.remove()
    first = _begins_with(called)
    if not isinstance(first, KANLinear):
        raise _not_a_kan(model, first)
    features = x[0].numel()
    if first.in_features != features:
        raise ValueError(
            f"x has {features} features, and the first KAN layer sees {first.in_features}: what stands before it "
            "must keep the features"
        )
    return first


def _begins_with(called: list[nn.Module]) -> nn.Module | None:
    return next((module for module in called if not isinstance(module, _FEATURE_WISE)), None)


def _not_a_kan(model: nn.Module, first: nn.Module | None) -> ValueError:
    found = "has no layer with parameters" if first is None else f"begins with {type(first).__name__}"
    return ValueError(
        f"the scores are of a network whose first layer is a KAN layer (KANLinear); {type(model).__name__} {found}"
    )
