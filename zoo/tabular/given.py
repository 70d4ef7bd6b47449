"""What the estimators are given: tables and options of layers, with errors that name the column or the option."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.utils.validation import validate_data

from zoo.layers.kan import KANLinear
from zoo.layers.kan.options import check_choice, check_count
from zoo.models.kan import LAYERS
from zoo.naming import check_keywords

_SETS_ITSELF = {"cls", "in_features", "out_features", "options", "device", "dtype"}
_OF_B_SPLINES = {"basis", "grid_size", "spline_order", "grid_range"}  # other presets have a basis of their own


def checked(estimator: Any, X: Any, *y: Any, **how: Any) -> Any:
    """scikit-learn's `validate_data`, which says of a data frame which columns are no numbers.

    Args:
        estimator: whose `n_features_in_` and `feature_names_in_` are set or compared.
        X: (rows, features).
        y: targets, or nothing.
        how: see `validate_data`.

    Raises:
        ValueError, TypeError: see `validate_data`.
    """
    try:
        return validate_data(estimator, X, *y, **how)
    except (ValueError, TypeError) as error:
        texts = [str(name) for i, name in enumerate(getattr(X, "columns", ())) if _is_text(X, i)]
        if not texts:
            raise
        raise type(error)(
            f"columns must be numbers, {', '.join(texts[:5])}{', …' if len(texts) > 5 else ''} are none: "
            "OneHotEncoder(sparse_output=False) in a ColumnTransformer makes numbers of categories"
        ) from error


def _is_text(X: Any, column: int) -> bool:
    if not hasattr(X, "iloc"):
        return False
    try:
        np.asarray(X.iloc[:, column], dtype=float)
    except (ValueError, TypeError):
        return True
    return False


def hidden_sizes(given: Any) -> tuple[int, ...]:
    """Widths as Python's integers.

    Raises:
        TypeError, ValueError: no sequence of integers of at least 1.
    """
    if not isinstance(given, tuple | list | np.ndarray) or np.ndim(given) != 1:
        raise TypeError(f"hidden_sizes must be a sequence of integers, such as (8,) or (), got {given!r}")
    return tuple(check_count("hidden_sizes", width) for width in given)


def layer_options(layer: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a layer, NumPy's numbers as Python's, which a saved model's config can hold.

    Raises:
        ValueError: an unknown layer.
        TypeError: an option that the layer does not take.
    """
    check_choice("layer", layer, LAYERS)
    shared, own = set(inspect.signature(KANLinear).parameters), set(inspect.signature(LAYERS[layer]).parameters)
    if layer != "efficient":
        shared -= _OF_B_SPLINES
    check_keywords(given, (shared | own) - _SETS_ITSELF, f"the layer {layer!r}")
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in given.items()}
