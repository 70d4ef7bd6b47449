"""A selector of features by the scores of a KAN."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import BaseEstimator
from sklearn.feature_selection import SelectorMixin
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from zoo.layers.kan import KAN
from zoo.layers.kan.feature_scores import METHODS, default_loss, normalized, score_features
from zoo.layers.kan.options import check_choice, check_count, check_positive
from zoo.tabular.given import checked
from zoo.tabular.training import Recipe, seeded, train

_TASKS = ("auto", "classification", "regression")


class KANSelector(SelectorMixin, BaseEstimator):
    """Keeps the features that matter most to a small KAN trained on them, as a scikit-learn transformer.

    On each of `cv` folds of the rows it is given, a network of two layers is trained on the other folds, standardised
    by them, and the features are scored on the fold. The score of a feature is the mean over folds.

    It only looks at the rows it is fitted on. In a scikit-learn `Pipeline`, features are selected inside each training
    fold, and what judges them has not been seen. (The paper scores on folds that together are all rows, and judges on
    the same rows.)

    Args:
        method: "sensitivity", "knockout", "l1", "l2", "coef_l1" or "coef_l2": see `zoo.explain.feature_scores`.
        n_features_to_select: a share of the features, rounded up, if it is a float from 0 to 1; their number if it is
            an integer.
        task: "classification", "regression", or "auto": floating targets are a regression, all others are classes.
        hidden_size: width between the two layers; None for one more than twice the features.
        grid_size, spline_order: of the curves, which lie on [-1, 1].
        cv: folds; 0 trains one network on all rows and scores on the same. Where there are fewer rows, or fewer of a
            class, there are fewer folds.
        epochs, batch_size, lr: of the training, with Adam.
        standardize_target: for regression. The paper's code does not, and the network is then far from fitted on
            targets that are large.
        random_state: of folds, initial values and the order of rows: None, a number, or a NumPy RandomState.

    Attributes:
        scores_: (features,), which sum to 1 unless knock-outs of a fold are all 0.
        support_: (features,), whether each is kept.
        task_: "classification" or "regression".
        n_features_in_, feature_names_in_: as in scikit-learn.

    Source: KAN feature selection (2025, arXiv 2509.23366); the network, its training and the folds are the paper's.
    """

    def __init__(
        self,
        method: str = "sensitivity",
        n_features_to_select: float = 0.4,
        *,
        task: str = "auto",
        hidden_size: int | None = None,
        grid_size: int = 2,
        spline_order: int = 1,
        cv: int = 5,
        epochs: int = 100,
        batch_size: int = 64,
        lr: float = 1e-3,
        standardize_target: bool = True,
        random_state: Any = None,
    ) -> None:
        self.method = method
        self.n_features_to_select = n_features_to_select
        self.task = task
        self.hidden_size = hidden_size
        self.grid_size = grid_size
        self.spline_order = spline_order
        self.cv = cv
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.standardize_target = standardize_target
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> KANSelector:
        """Score the features and choose among them.

        Args:
            X: (rows, features), a data frame or an array.
            y: (rows,), classes or numbers.

        Raises:
            ValueError, TypeError: an argument of the constructor out of range, an unknown method; more features to
                keep than there are; X or y with NaN or infinity, or of another shape.
        """
        X, y = checked(self, X, y, dtype=[np.float64, np.float32], ensure_min_samples=2)
        check_choice("method", self.method, METHODS)
        count = self._count(X.shape[1])
        check_choice("task", self.task, _TASKS)
        floating = np.issubdtype(np.asarray(y).dtype, np.floating)
        self.task_ = ("regression" if floating else "classification") if self.task == "auto" else self.task
        if self.task_ == "classification":
            check_classification_targets(y)
            y = np.unique(y, return_inverse=True)[1]
        random = check_random_state(self.random_state)
        folds = list(self._folds(X, y, random))
        seeds = random.randint(2**31 - 1, size=len(folds))
        scores = [self._score(X, y, *fold, int(seed)) for fold, seed in zip(folds, seeds, strict=True)]
        self.scores_ = np.mean(scores, axis=0)
        self.support_ = np.zeros(X.shape[1], dtype=bool)
        self.support_[np.argsort(-self.scores_, kind="stable")[:count]] = True
        return self

    def _count(self, features: int) -> int:
        wanted = self.n_features_to_select
        if isinstance(wanted, bool) or not isinstance(wanted, int | float | np.integer | np.floating):
            raise TypeError(
                f"n_features_to_select must be a share (float) or a number (int) of features, got {wanted!r}"
            )
        if isinstance(wanted, float | np.floating):
            if not 0 < wanted <= 1:
                raise ValueError(f"n_features_to_select as a share must be above 0 and at most 1, got {wanted}")
            return math.ceil(wanted * features)
        if not 1 <= wanted <= features:
            raise ValueError(f"n_features_to_select must be from 1 to the number of features, {features}, got {wanted}")
        return int(wanted)

    def _folds(self, X: np.ndarray, y: np.ndarray, random: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Rows to train on and rows to score on."""
        rows = np.arange(len(X))
        if check_count("cv", self.cv, least=0) == 1:
            raise ValueError("cv must be 0, for one network on all rows, or 2 at least, got 1")
        wanted = min(self.cv, len(X))
        smallest = np.bincount(y).min() if self.task_ == "classification" else len(X)
        if wanted < 2:
            return iter([(rows, rows)])
        if self.task_ == "classification" and smallest >= 2:
            return StratifiedKFold(min(wanted, smallest), shuffle=True, random_state=random).split(X, y)
        return KFold(wanted, shuffle=True, random_state=random).split(X)

    def _score(self, X: np.ndarray, y: np.ndarray, training: np.ndarray, scored: np.ndarray, seed: int) -> np.ndarray:
        """Of a network trained on some rows, on others; they sum to 1."""
        kan, x, targets = self._network(X, y, training, seed)
        first: Any = kan.layers[0]
        scores = score_features(kan, first, x[scored], targets[scored], self.method, default_loss)
        return normalized(scores.detach()).double().numpy()

    def _network(self, X: np.ndarray, y: np.ndarray, training: np.ndarray, seed: int) -> tuple[KAN, Tensor, Tensor]:
        """A network trained on some rows, and all rows and targets as it takes them."""
        x = torch.tensor(StandardScaler().fit(X[training]).transform(X), dtype=torch.float32)
        outputs, targets = self._targets(y, training)
        features = X.shape[1]
        hidden = 2 * features + 1 if self.hidden_size is None else check_count("hidden_size", self.hidden_size)
        grid: dict[str, Any] = {"grid_size": self.grid_size, "spline_order": self.spline_order}
        recipe = Recipe(
            check_count("epochs", self.epochs),
            check_count("batch_size", self.batch_size),
            check_positive("lr", self.lr),
        )
        with seeded(seed) as generator:
            kan = KAN([features, hidden, outputs], edge_scale="ones", **grid)
            loss = F.cross_entropy if self.task_ == "classification" else F.mse_loss
            train(kan, x[training], targets[training], loss, recipe, generator)
        return kan, x, targets

    def _targets(self, y: np.ndarray, training: np.ndarray) -> tuple[int, Tensor]:
        """Outputs of the network, and what they are compared with."""
        if self.task_ == "classification":
            return int(y.max()) + 1, torch.tensor(y)
        if self.standardize_target:
            y = (y - y[training].mean()) / (y[training].std() or 1.0)
        return 1, torch.tensor(y, dtype=torch.float32).unsqueeze(1)

    def _get_support_mask(self) -> np.ndarray:
        check_is_fitted(self)
        return self.support_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags
