"""Ridge regression in closed form, for layers that start as a copy of another.

    min_W |X W - Y|^2 + lambda |W|^2,        lambda = damping * mean(diag(X^T X)),

for features X (n, F) and targets Y (n, O). The relative damping means the same whatever the units of X are. Sums and
factorisations are in float64: a normal matrix has the square of the condition number of X, which float32 seldom bears
(with `mixed`, the products X^T Y within a block of rows are not).

    primal  W = (X^T X + lambda I)^-1 X^T Y     one F x F system, and X may come in blocks
    dual    W = X^T (X X^T + lambda I)^-1 Y     one n x n system: cheaper where the rows are fewer than the features

Both give the same W, and without damping that of least norm.
"""

import torch
from jaxtyping import Float
from torch import Tensor

_BLOCK = 1024  # rows in float64 at a time: a third quicker than 20,000 at once, and in little memory


class NormalEquations:
    """The primal form, from rows that come block by block: memory F x (F + O), however many rows there are.

    `add` blocks, then `solve`, as often as wanted. Several sets of targets share the features, and the factorisation.

    Args:
        constant: a last coefficient, for a feature that is 1 in every row.
        mixed: X^T Y of float32 rows is multiplied in float32 and only summed over blocks in float64, which takes half
            the time. For solving with a cut-off: it leaves out the directions that would magnify the rounding.
    """

    def __init__(self, *, constant: bool = False, mixed: bool = False) -> None:
        self.constant, self.mixed = constant, mixed
        self.count = 0
        #: Columns of each set of targets.
        self.widths: tuple[int, ...] = ()
        self._sums: Tensor | None = None  # [X^T X, X^T Y], of the former only three quarters

    @property
    def float32_cutoff(self) -> float:
        """What a pseudo-inverse of X in float32 takes for rounding: max(rows, coefficients) times eps.

        It grows with the rows: 2e-3 at 20,000 of them, and from 8.4 million on it leaves nothing.
        """
        size = 0 if self._sums is None else self._sums.shape[0]
        return max(self.count, size) * torch.finfo(torch.float32).eps

    def add(self, features: Float[Tensor, "rows features"], *targets: Float[Tensor, "rows _"]) -> None:
        """Take in a block of rows.

        Raises:
            ValueError: features and targets of different lengths, or of other widths than the blocks before.
        """
        for target in targets:
            _check_rows(features, target)
        size, widths = features.shape[1] + self.constant, tuple(target.shape[1] for target in targets)
        if self._sums is not None and (self._sums.shape[0], self.widths) != (size, widths):
            before = (self._sums.shape[0] - self.constant, *self.widths)
            raise ValueError(
                f"this block has (features, targets) {(features.shape[1], *widths)}, those before it had {before}"
            )
        if self._sums is None:
            where = "cpu" if features.device.type == "mps" else features.device  # Apple's GPUs have no float64
            self._sums = torch.zeros(size, size + sum(widths), dtype=torch.float64, device=where)
            self.widths = widths
        _accumulate(self._sums, features, targets, self.constant, self.mixed)
        self.count += features.shape[0]

    def solve(self, damping: float = 0.0, *, cutoff: float | None = None) -> Float[Tensor, "coefficients targets"]:
        """The coefficients in float64, all targets side by side: `.split(equations.widths, 1)` takes them apart.

        Args:
            damping: weight of |W|^2, relative to the mean squared norm of the columns of X.
            cutoff: leave out the directions in which X has a singular value of at most this part of its largest one;
                a regularisation of its own. None, and below 1e-7 or so: only what is rounding in the float64 sums.

        Raises:
            ValueError: no rows yet, a negative damping or cut-off; with a cut-off, nothing that it leaves, or values
                that are not finite.
        """
        if self._sums is None or self.count == 0:
            raise ValueError("there is nothing to solve: add rows first")
        size = self._sums.shape[0]
        gram, moment = self._sums[:, :size], self._sums[:, size:]
        half = size // 2
        gram[half:, :half] = gram[:half, half:].t()
        shift = _checked(damping) * gram.diagonal().mean()
        if cutoff is None:
            return _solve(gram, moment, shift)
        if not cutoff >= 0:
            raise ValueError(f"the cut-off must be at least 0, got {cutoff}")
        if cutoff >= 1:
            raise ValueError(
                f"a cut-off of {cutoff:.3g} leaves nothing of the features: rank 0. It must be below 1; that of "
                f"float32 grows with the rows, here {self.count}"
            )
        if not self._sums.isfinite().all():
            of = "features" if not gram.isfinite().all() else "targets"
            raise ValueError(f"the {of} have NaN or infinite values")
        if not gram.diagonal()[: size - self.constant].any():
            raise ValueError(f"every feature is 0 in all {self.count} rows: rank 0")
        if self.constant and self.count > 1 and not self._varies(gram):
            raise ValueError(
                f"every feature has one value in all {self.count} rows, which determines the constant alone"
            )
        return _by_eigenvectors(gram, moment, shift, floor=max(cutoff**2, _negligible(gram)))

    def _varies(self, gram: Tensor) -> bool:
        """Whether a feature differs between rows by more than the rounding of float32."""
        squares, sums = gram.diagonal()[:-1], gram[-1, :-1]
        rounding = max(self.count * torch.finfo(torch.float64).eps, torch.finfo(torch.float32).eps ** 2)
        return bool((squares - sums.square() / self.count > rounding * squares).any())


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


def _accumulate(sums: Tensor, features: Tensor, targets: tuple[Tensor, ...], constant: bool, mixed: bool) -> None:
    """Add to [X^T X, X^T Y], by blocks that stay in the processor's cache; X^T X without its lower left quarter."""
    size = features.shape[1] + constant
    gram, *moments = sums.split([size, *(target.shape[1] for target in targets)], 1)
    half = size // 2
    for start in range(0, features.shape[0], _BLOCK):
        rows = features[start : start + _BLOCK]
        rows = torch.nn.functional.pad(rows, (0, 1), value=1.0) if constant else rows
        block = _double(rows)
        # It is symmetric: three of its four quarters.
        gram[:half].addmm_(block[:, :half].t(), block)
        gram[half:, half:].addmm_(block[:, half:].t(), block[:, half:])
        for moment, target in zip(moments, targets, strict=True):
            others = target[start : start + _BLOCK]
            if mixed and rows.dtype == others.dtype == torch.float32:
                moment.add_(_double(rows.t() @ others))
            else:
                moment.addmm_(block.t(), _double(others))


def _solve(gram: Tensor, right: Tensor, shift: Tensor) -> Tensor:
    """(gram + shift I)^-1 right by Cholesky; where that is singular, by the eigenvectors that are not of rounding."""
    shifted = gram.clone()
    shifted.diagonal().add_(shift)
    factor, info = torch.linalg.cholesky_ex(shifted)
    pivots = factor.diagonal().square()
    # A singular matrix can pass by the luck of rounding, with a pivot that is nothing but rounding.
    if not info.item() and pivots.min() > _negligible(gram) * shifted.diagonal().max():
        return torch.cholesky_solve(right, factor)
    return _by_eigenvectors(shifted, right, torch.zeros_like(shift), floor=_negligible(gram))


def _by_eigenvectors(gram: Tensor, right: Tensor, shift: Tensor, *, floor: float) -> Tensor:
    """(gram + shift I)^-1 right in the eigenvectors of gram whose values exceed `floor` times the largest."""
    values, vectors = torch.linalg.eigh(gram)
    inverse = torch.where(values > floor * values[-1], 1 / (values + shift), 0.0)
    return vectors @ (vectors.t() @ right).mul_(inverse[:, None])


def _negligible(gram: Tensor) -> float:
    """Rounding, as a part of the largest eigenvalue."""
    return gram.shape[0] * torch.finfo(gram.dtype).eps


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
