"""A classifier and a regressor for tables, made of curves that can be looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from zoo.factory import create_model
from zoo.layers.kan import KAN, BSplineBasis
from zoo.layers.kan.life.regularise import METRICS
from zoo.layers.kan.options import check_choice, check_count, check_nonnegative, check_positive
from zoo.models.data_config import set_data_config
from zoo.models.kan_tabular import TabularKAN
from zoo.tabular.given import checked, hidden_sizes, layer_options
from zoo.tabular.training import Recipe, hold_out, seeded, train

_REGULARIZERS = (*METRICS, "weight")
_ROWS = 8192  # computed at a time
_TYPES = [np.float64, np.float32]


class _KANEstimator(BaseEstimator):
    """What the classifier and the regressor share: the model, its training, and its answers."""

    _task: str
    model_: TabularKAN
    history_: list[dict[str, Any]]

    def __init__(
        self,
        hidden_sizes: Sequence[int] = (8,),
        *,
        layer: str = "efficient",
        layer_options: Mapping[str, Any] | None = None,
        update_grid: bool = True,
        epochs: int = 200,
        batch_size: int = 64,
        lr: float = 1e-2,
        weight_decay: float = 0.0,
        sparsity: float = 0.0,
        regularizer: str = METRICS[0],
        early_stopping: bool = True,
        validation_fraction: float = 0.15,
        patience: int = 20,
        random_state: Any = None,
    ) -> None:
        self.hidden_sizes = hidden_sizes
        self.layer = layer
        self.layer_options = layer_options
        self.update_grid = update_grid
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.sparsity = sparsity
        self.regularizer = regularizer
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Any:
        """Train a new model.

        Args:
            X: (rows, features), a data frame or an array.
            y: their targets.

        Raises:
            ValueError, TypeError: an argument of the constructor out of range; X or y with NaN or infinity, or of other
                shapes.
            NonFiniteLossError: the loss became NaN or infinite.
        """
        recipe = self._recipe()
        rows, targets = self._checked(X, y, first=True)
        names = getattr(self, "feature_names_in_", None)
        with seeded(self._seed()) as generator:
            model: Any = create_model(
                "kan_tabular",
                num_classes=self._num_outputs(targets),
                in_features=rows.shape[1],
                task=self._task,
                hidden_sizes=hidden_sizes(self.hidden_sizes),
                layer=self.layer,
                layer_options=self._layer_options(),
                feature_names=None if names is None else [str(name) for name in names],
            )
            self._describe(model)
            model.fit_scaling(rows, targets if self._task == "regression" else None)
            first = model.kan.layers[0]
            if self.update_grid and isinstance(first.basis, BSplineBasis) and first.norm is None:
                first.update_grid(model.scaling(rows).float())
            self.model_ = model
            self._train(rows, targets, recipe, generator)
        return self

    def prune(
        self, X: Any, y: Any, *, node_threshold: float = 1e-2, edge_threshold: float = 3e-2, retrain: bool = True
    ) -> Any:
        """Take out of the fitted model what carries little, and train what is left; see `KAN.prune`.

        Args:
            X, y: rows to measure and to train on, as for `fit`.
            node_threshold: hidden nodes whose score is not above it go.
            edge_threshold: the same for edges.
            retrain: without it the curves that are left stay as they are.
        """
        check_is_fitted(self)
        recipe = self._recipe()
        rows, targets = self._checked(X, y, first=False)
        self.model_.kan.prune(self.model_.scaling(rows).float(), node_threshold, edge_threshold)
        if retrain:
            with seeded(self._seed()) as generator:
                self._train(rows, targets, recipe, generator)
        return self

    def _train(self, rows: Tensor, targets: Tensor, recipe: Recipe, generator: torch.Generator) -> None:
        """Train on standardised rows, and for a regression standardised targets."""
        model, held_out = self.model_, None
        if self.early_stopping:
            classes = targets if self._task == "classification" else torch.zeros(len(rows))
            held_out = hold_out(classes, self.validation_fraction, generator)
        if model.target_scaling is not None:
            targets = model.target_scaling(targets).float()
        loss = F.cross_entropy if self._task == "classification" else F.mse_loss
        penalty = self._penalty(model.kan)
        x = model.scaling(rows).float()
        self.history_ = train(model.kan, x, targets, loss, recipe, generator, penalty=penalty, held_out=held_out)
        model.eval()

    def _penalty(self, kan: KAN) -> Callable[[Tensor], Tensor] | None:
        if not self.sparsity:
            return None
        if self.regularizer == "weight":
            return lambda _: self.sparsity * kan.regularization_loss()

        def penalty(x: Tensor) -> Tensor:
            if len(x) < 2:  # the last batch may be a single row, which has no deviation
                return x.new_zeros(())
            return self.sparsity * kan.sample_regularization(x, metric=self.regularizer)

        return penalty

    def _layer_options(self) -> dict[str, Any] | None:
        if self.layer_options is not None:
            return layer_options(self.layer, self.layer_options)
        # Finer grids fit a few hundred rows worse.
        return {"grid_size": 3, "grid_range": (-3.0, 3.0)} if self.layer == "efficient" else None

    def _recipe(self) -> Recipe:
        check_nonnegative("sparsity", self.sparsity)
        check_choice("regularizer", self.regularizer, _REGULARIZERS)
        if not 0 < self.validation_fraction < 1:
            raise ValueError(f"validation_fraction must be between 0 and 1, got {self.validation_fraction}")
        return Recipe(
            check_count("epochs", self.epochs),
            check_count("batch_size", self.batch_size),
            check_positive("lr", self.lr),
            check_nonnegative("weight_decay", self.weight_decay),
            check_count("patience", self.patience),
        )

    def _seed(self) -> int:
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _outputs(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        rows = torch.tensor(checked(self, X, reset=False, dtype=_TYPES), dtype=torch.float64)
        # In float32 what a row is given depends, in the last digits, on the rows beside it.
        model = deepcopy(self.model_).double()
        with torch.no_grad():
            return torch.cat([model(part) for part in rows.split(_ROWS)]).numpy()

    def _checked(self, X: Any, y: Any, *, first: bool) -> tuple[Tensor, Tensor]:
        """Rows and targets as tensors; with `first`, what was learned of earlier ones is forgotten."""
        raise NotImplementedError

    def _num_outputs(self, targets: Tensor) -> int:
        raise NotImplementedError

    def _describe(self, model: TabularKAN) -> None:
        """Tell the model what its outputs are called."""


class KANClassifier(ClassifierMixin, _KANEstimator):
    """A KAN that classifies the rows of a table, as a scikit-learn estimator.

    Columns are standardised inside, so that no scaler is needed before it. After `fit`, `model_` is the zoo model
    `kan_tabular`: it takes rows in their own units, and can be explained, exported, saved and published as any.

    It takes numbers without gaps: `OneHotEncoder(sparse_output=False)` and `SimpleImputer` go before it in a pipeline.
    Outside the range of the rows it was fitted on its curves are no guide and it does not say so: B-splines end there.
    A single extreme value in a column takes most of the range of its curve from the others: `RobustScaler` and a clip
    to some units of it, before the model, keep it from that.

    Args:
        hidden_sizes: widths between the layers. A narrow network has few curves to look at.
        layer: "efficient" (B-splines), "fast" (Gaussians), "faster" (switches) or "chebyshev": see `KANLinear`.
        layer_options: of every layer. None: for B-splines {"grid_size": 3, "grid_range": (-3, 3)}.
        update_grid: lay the knots of the first layer by the quantiles of each column; of effect on B-splines.
        epochs: passes over the rows, at most.
        batch_size: rows of a step.
        lr: learning rate of Adam.
        weight_decay: of Adam.
        sparsity: weight of the penalty that makes curves few and flat, so that `prune` finds more to take out.
        regularizer: what is penalised: the curves over the batch, by a metric of `KAN.sample_regularization`; or
            "weight", the coefficients of the basis functions, `KAN.regularization_loss`, which leaves the base branch.
        early_stopping: hold rows out, stop when their loss no longer falls, and keep the best epoch. Where fewer than
            ten rows would be held out, none are and all epochs run.
        validation_fraction: rows to hold out.
        patience: epochs without progress before it stops.
        random_state: of initial values, order and held-out rows: None, a number, or a NumPy RandomState.

    Attributes:
        model_: `kan_tabular`; outputs are logits in the order of `classes_`, whose texts are its `label_names`. The
            names of a data frame's columns are its `feature_names`.
        classes_: labels.
        history_: a dictionary an epoch: `epoch`, `train_loss` with the penalty, `val_loss` where rows were held out.
        n_features_in_, feature_names_in_: as in scikit-learn.

    Source: KAN (2024, arXiv 2404.19756); on tables of alloys, Bandyopadhyay et al. (2024, arXiv 2410.08452).
    """

    _task = "classification"

    def predict(self, X: Any) -> np.ndarray:
        """The most likely class of every row.

        Args:
            X: (rows, features).
        """
        best = self._outputs(X).argmax(1)
        return self.classes_[best]

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of every class, (rows, classes).

        Args:
            X: (rows, features).
        """
        return torch.tensor(self._outputs(X)).softmax(1).numpy()

    def _checked(self, X: Any, y: Any, *, first: bool) -> tuple[Tensor, Tensor]:
        X, y = checked(self, X, y, reset=first, dtype=_TYPES, ensure_min_samples=2)
        check_classification_targets(y)
        if first:
            self.classes_ = np.unique(y)
            if len(self.classes_) < 2:
                raise ValueError(f"y must have two classes at least, got one class: {self.classes_[0]}")
        elif not np.isin(y, self.classes_).all():
            unknown, known = np.setdiff1d(y, self.classes_)[0], ", ".join(map(str, self.classes_))
            raise ValueError(f"y has the class {unknown}, which was not there in fit: those were {known}")
        return torch.tensor(X, dtype=torch.float64), torch.tensor(np.searchsorted(self.classes_, y))

    def _num_outputs(self, targets: Tensor) -> int:
        return len(self.classes_)

    def _describe(self, model: TabularKAN) -> None:
        names = [str(label) for label in self.classes_]
        if all(names) and len(set(names)) == len(names):  # a model's labels are texts
            set_data_config(model, label_names=names)


class KANRegressor(RegressorMixin, _KANEstimator):
    """A KAN that predicts one number or several for the rows of a table, as a scikit-learn estimator.

    Columns and targets are standardised inside. After `fit`, `model_` is the zoo model `kan_tabular`: it takes rows in
    their own units and gives the targets in theirs. What `KANClassifier` says of gaps, outliers and rows outside the
    range it was fitted on holds here too: it does not go on with a trend.

    Args:
        hidden_sizes, layer, layer_options, update_grid, epochs, batch_size, lr, weight_decay: see `KANClassifier`.
        sparsity, regularizer, early_stopping, validation_fraction, patience, random_state: the same.

    Attributes:
        model_, history_, n_features_in_, feature_names_in_: see `KANClassifier`. Losses are of standardised targets.

    Source: KAN (2024, arXiv 2404.19756); on tables of alloys, Bandyopadhyay et al. (2024, arXiv 2410.08452).
    """

    _task = "regression"

    def predict(self, X: Any) -> np.ndarray:
        """(rows,), or (rows, targets) where y had two dimensions.

        Args:
            X: (rows, features).
        """
        outputs = self._outputs(X)
        return outputs[:, 0] if self._flat else outputs

    def _checked(self, X: Any, y: Any, *, first: bool) -> tuple[Tensor, Tensor]:
        how: dict[str, Any] = {"dtype": _TYPES, "ensure_min_samples": 2, "multi_output": True, "y_numeric": True}
        X, y = checked(self, X, y, reset=first, **how)
        if first:
            self._flat = y.ndim == 1
        return torch.tensor(X, dtype=torch.float64), torch.tensor(y, dtype=torch.float64).reshape(len(X), -1)

    def _num_outputs(self, targets: Tensor) -> int:
        return targets.shape[1]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
