"""The kernel of a feature map: how alike the states of two samples are."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from zoo.quantum import feature_maps, simulate
from zoo.quantum.feature_maps import FeatureMap


def kernel(
    x1: Any, x2: Any = None, feature_map: str | FeatureMap = "zz:2", *, n_qubits: int | None = None
) -> Float[Tensor, "n m"]:
    """K[i, j] = |<S(x1_i)|S(x2_j)>|^2, the fidelity of encoded samples, as support vector machines take it.

    Shapes: (n, features), (m, features) -> (n, m), in the dtype of x1. With x2 None that of x1 with itself: symmetric,
    positive semidefinite, 1 on the diagonal. Differentiable in both.

        SVC(kernel="precomputed").fit(kernel(x), y).predict(kernel(new, x))

    Args:
        x1: a tensor, or an array of floats.
        x2: likewise, or None.
        feature_map: see `zoo.quantum.feature_map`; by default, as Havlíček et al., the map "zz" applied twice.
        n_qubits: wires, of a map by name; as few as hold the features if None.

    Raises:
        ValueError, TypeError: no matrices of the same width; features that the map cannot take.

    Source: Havlíček et al. (2019, arXiv 1804.11326), Schuld and Killoran (2019, arXiv 1803.07128).
    """
    first = torch.as_tensor(x1)
    second = first if x2 is None else torch.as_tensor(x2)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise ValueError(
            f"a kernel is of two matrices (samples, features), got {tuple(first.shape)} and {tuple(second.shape)}"
        )
    found = feature_map
    if not isinstance(found, FeatureMap):
        found = feature_maps.feature_map(found, first.shape[1], n_qubits)
    kind = torch.float64 if torch.float64 in (first.dtype, second.dtype) else torch.float32
    left = _states(found, first, kind)
    right = left if x2 is None else _states(found, second, kind)
    overlaps = torch.view_as_real(left @ right.mH).square().sum(-1)
    overlaps = overlaps if x2 is not None else (overlaps + overlaps.mT) / 2
    return overlaps.to(first.dtype if first.is_floating_point() else kind)


def _states(found: FeatureMap, x: Tensor, kind: torch.dtype) -> Tensor:
    """(n, 2**qubits) states of samples."""
    found.check(x)
    rows = x.to(kind)
    inputs = found.angles(rows) if found.circuit.n_inputs else None
    return simulate.state(found.circuit, None, inputs, state=found.state(rows))
