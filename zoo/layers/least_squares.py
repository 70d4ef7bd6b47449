"""Ridge regression in closed form, for layers that start as a copy of another.

    min_W |X W - Y|^2 + lambda |W|^2,        lambda = damping * mean(diag(X^T X)),

for features X (n, F) and targets Y (n, O). The relative damping means the same whatever the units of X are. Sums and
factorisations are in float64: a normal matrix has the square of the condition number of X, which float32 seldom bears.

    primal  W = (X^T X + lambda I)^-1 X^T Y     one F x F system, and X may come in blocks
    dual    W = X^T (X X^T + lambda I)^-1 Y     one n x n system: cheaper where the rows are fewer than the features

Both give the same W, and without damping that of least norm.
"""

import torch
from jaxtyping import Float
from torch import Tensor


class NormalEquations:
    """The primal form, from rows that come block by block: memory F x (F + O), however many rows there are.

    `add` blocks, then `solve`, as often as wanted.
    """

    def __init__(self) -> None:
        self.count = 0
        self._gram: Tensor | None = None
        self._moment: Tensor | None = None

    def add(self, features: Float[Tensor, "rows features"], targets: Float[Tensor, "rows targets"]) -> None:
        """Take in a block of rows.

        Raises:
            ValueError: features and targets of different lengths, or of other widths than the blocks before.
        """
        _check_rows(features, targets)
        features, targets = _double(features), _double(targets)
        gram, moment = features.t() @ features, features.t() @ targets
        if self._gram is None or self._moment is None:
            self._gram, self._moment = gram, moment
        elif self._moment.shape != moment.shape:
            raise ValueError(
                f"this block has (features, targets) {tuple(moment.shape)}, those before it had "
                f"{tuple(self._moment.shape)}"
            )
        else:
            self._gram += gram
            self._moment += moment
        self.count += features.shape[0]

    def solve(self, damping: float = 0.0) -> Float[Tensor, "features targets"]:
        """The coefficients, in float64.

        Raises:
            ValueError: no rows yet, or a negative damping.
        """
        if self._gram is None or self._moment is None or self.count == 0:
            raise ValueError("there is nothing to solve: add rows first")
        return _solve(self._gram, self._moment, _checked(damping) * self._gram.diagonal().mean())


class DualEquations:
    """The dual form, from all rows at once."""

    def __init__(self, features: Float[Tensor, "rows features"], targets: Float[Tensor, "rows targets"]) -> None:
        _check_rows(features, targets)
        self._features, self._targets = _double(features), _double(targets)
        self._gram = self._features @ self._features.t()

    def solve(self, damping: float = 0.0) -> Float[Tensor, "features targets"]:
        """The coefficients, in float64.

        Raises:
            ValueError: a negative damping.
        """
        shift = _checked(damping) * self._gram.trace() / self._features.shape[1]
        return self._features.t() @ _solve(self._gram, self._targets, shift)


def equations(
    features: Float[Tensor, "rows features"], targets: Float[Tensor, "rows targets"]
) -> NormalEquations | DualEquations:
    """The smaller of the two forms, ready to be solved with any damping.

    Raises:
        ValueError: features and targets of different lengths, or no rows at all.
    """
    _check_rows(features, targets)
    if features.shape[0] == 0:
        raise ValueError("least squares need at least one row")
    if features.shape[0] < features.shape[1]:
        return DualEquations(features, targets)
    normal = NormalEquations()
    normal.add(features, targets)
    return normal


def ridge(
    features: Float[Tensor, "rows features"], targets: Float[Tensor, "rows targets"], *, damping: float = 0.0
) -> Float[Tensor, "features targets"]:
    """Coefficients W of `features @ W` nearest to `targets`, in float64.

    Args:
        features: X, one row an observation; append a column of ones for a constant.
        targets: Y, the same rows.
        damping: weight of |W|^2, relative to the mean squared norm of the columns of X. With 0, W is the least-squares
            solution of least norm, also where the columns depend on each other.

    Raises:
        ValueError: different numbers of rows, no rows, or a negative damping.
    """
    return equations(features, targets).solve(damping)


def _solve(gram: Tensor, right: Tensor, shift: Tensor) -> Tensor:
    """(gram + shift I)^-1 right by Cholesky; where that is singular, by the eigenvectors that are not of rounding."""
    size = gram.shape[0]
    shifted = gram.clone()
    shifted.diagonal().add_(shift)
    factor, info = torch.linalg.cholesky_ex(shifted)
    negligible = size * torch.finfo(gram.dtype).eps
    pivots = factor.diagonal().square()
    # A singular matrix can pass by the luck of rounding, with a pivot that is nothing but rounding.
    if not info.item() and pivots.min() > negligible * shifted.diagonal().max():
        return torch.cholesky_solve(right, factor)
    values, vectors = torch.linalg.eigh(shifted)
    inverse = torch.where(values > negligible * values[-1], 1 / values, 0.0)
    return vectors @ (inverse[:, None] * (vectors.t() @ right))


def _double(tensor: Tensor) -> Tensor:
    # Apple's GPUs have no float64.
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


def _check_rows(features: Tensor, targets: Tensor) -> None:
    if features.shape[0] != targets.shape[0]:
        raise ValueError(f"features have {features.shape[0]} rows, but targets have {targets.shape[0]}")


def _checked(damping: float) -> float:
    if not damping >= 0:
        raise ValueError(f"damping must be at least 0, got {damping}")
    return damping
