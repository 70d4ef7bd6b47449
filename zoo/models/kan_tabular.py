"""A Kolmogorov-Arnold network for the rows of tables.

Source: Liu et al., "KAN: Kolmogorov-Arnold Networks" (2024, arXiv 2404.19756); on tables of alloys,
Bandyopadhyay et al. (2024, arXiv 2410.08452).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.layers.kan.life.sample import working_dtype
from zoo.layers.kan.options import check_choice, check_count
from zoo.models.kan import KANModel
from zoo.models.no_image import described

_TASKS = ("classification", "regression")
_TEXTS = ("feature_names", "feature_units", "target_units")


class Scaling(nn.Module):
    """Standardises columns: (x - mean) / std, with mean 0 and std 1 until `fit` takes them from data.

    Mean and deviation are float64, whatever the type of the model, so that a column may lie far from 0; float32 on
    Apple's GPUs, which have no other.

    Shapes: (B, columns) -> the same, in the type of the input.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, columns: int, *, device: torch.device | str | None = None) -> None:
        super().__init__()
        for name in ("mean", "std"):
            place = torch.empty(columns, device=device, dtype=torch.float32)
            self.register_buffer(name, place.to(working_dtype(place)))
        self.reset_parameters()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Scaling":
        """To another device, but to no other type: a mean of 1e8 has lost its digits in float32."""
        for name in ("mean", "std"):
            kept = getattr(self, name)
            moved = fn(kept.float())
            # From the meta device there is nothing to keep.
            setattr(self, name, (moved if kept.is_meta else kept).to(moved.device, working_dtype(moved)))
        return self

    def reset_parameters(self) -> None:
        """To mean 0 and std 1."""
        self.mean.zero_()
        self.std.fill_(1)

    @torch.no_grad()
    def fit(self, x: Tensor, name: str) -> None:
        """Take mean and standard deviation of every column from rows; one that is constant is only shifted.

        Args:
            x: (rows, columns).
            name: of x, for errors.

        Raises:
            TypeError: no floating tensor.
            ValueError: another width, no rows, NaN or infinity.
        """
        columns = len(self.mean)
        if not isinstance(x, Tensor) or not x.is_floating_point():
            kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"{name} must be a floating tensor, got {kind}; torch.tensor makes one of an array")
        if x.ndim != 2 or x.shape[1] != columns or not len(x):
            raise ValueError(f"{name} must be (rows, {columns}) with one row at least, got {tuple(x.shape)}")
        if not bool(x.isfinite().all()):
            column = int((~x.isfinite()).any(0).nonzero()[0])
            raise ValueError(f"{name} must be finite, column {column} has NaN or infinity")
        x = x.to(working_dtype(x))
        largest = x.abs().amax(0)
        unit = largest.masked_fill(largest == 0, 1)  # squares of what is large or small would leave the range
        shares = x / unit
        spread = shares.std(0, correction=0)
        # What rounding leaves of a constant is no spread.
        self.std.copy_((unit * spread).masked_fill(spread <= 10 * torch.finfo(x.dtype).eps, 1))
        self.mean.copy_(unit * shares.mean(0))

    def forward(self, x: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
        return ((x - self.mean) / self.std).to(x.dtype)

    def back(self, z: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
        """What is standardised, in its own units again."""
        return (self.mean + self.std * z).to(z.dtype)


class TabularKAN(KANModel):
    """A KAN whose inputs are the columns of a table, in their own units, which it standardises.

    Shapes: (B, in_features) -> (B, num_classes), of any floating type; a column that lies far from 0 wants float64.
    State dict: `kan.`, `scaling.mean` and `scaling.std` of the columns, and for regression those of the targets,
    `target_scaling.`.

    Args:
        in_features: columns.
        num_classes: outputs: classes, or targets of a regression; 0 for none, the features.
        task: "classification" or "regression".
        hidden_sizes, layer, layer_options, own_knots, masked: see `KANModel`.
        feature_names, feature_units: of the columns, for plots and reports.
        target_units: of the targets of a regression. Names of the outputs are the `label_names` of
            `zoo.set_data_config`, as for every model.

    Raises:
        ValueError, TypeError: as `KANModel`; an unknown task, names or units of another number than there are columns,
            names that are there twice; in the call, rows of another width.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        task: str,
        hidden_sizes: Sequence[int],
        layer: str,
        layer_options: Mapping[str, Any] | None = None,
        own_knots: Sequence[int] = (),
        masked: Sequence[int] = (),
        feature_names: Sequence[str] | None = None,
        feature_units: Sequence[str] | None = None,
        target_units: Sequence[str] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            check_count("in_features", in_features),
            num_classes,
            hidden_sizes=hidden_sizes,
            layer=layer,
            layer_options=layer_options,
            own_knots=own_knots,
            masked=masked,
            device=device,
            dtype=dtype,
        )
        self.in_features = in_features
        self.task = check_choice("task", task, _TASKS)
        self.feature_names = _texts("feature_names", feature_names, in_features)
        self.feature_units = _texts("feature_units", feature_units, in_features)
        self.target_units = _texts("target_units", target_units, num_classes)
        self.scaling = Scaling(in_features, device=device)
        self.target_scaling = self._new_target_scaling()
        if task == "regression":
            self._classifier = [self._last, "target_scaling"]  # both are of the targets
        self.pretrained_cfg = {"input_size": None, "num_classes": num_classes}

    def _new_target_scaling(self) -> Scaling | None:
        if self.task != "regression" or not self.num_classes:
            return None
        return Scaling(self.num_classes, device=self.scaling.mean.device)

    def init_weights(self) -> None:
        """Draw every parameter anew and forget the scaling."""
        super().init_weights()
        for scaling in (self.scaling, self.target_scaling):
            if scaling is not None:
                scaling.reset_parameters()

    @property
    def _model_args(self) -> dict[str, Any]:
        known = {name: getattr(self, name) for name in ("in_features", "task", *_TEXTS)}
        return {**self._network_args(), **known}

    @_model_args.setter
    def _model_args(self, options: dict[str, Any]) -> None:
        self._options = options

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """As `KANModel`; the new targets of a regression have no units, and no scaling until `fit_scaling`."""
        super().reset_classifier(num_classes, global_pool)
        self.target_units = None
        self.target_scaling = self._new_target_scaling()

    def fit_scaling(self, x: Float[Tensor, "rows in_features"], y: Float[Tensor, "rows targets"] | None = None) -> None:
        """Take mean and standard deviation of every column from data; a column that is constant is only shifted.

        Args:
            x: rows to train on.
            y: their targets, (rows, num_classes), for regression.

        Raises:
            TypeError: x or y is no floating tensor.
            ValueError: another width, no rows, NaN or infinity; targets missing, or given where there are none.
        """
        if (y is None) != (self.target_scaling is None):
            wanted = "targets y (rows, num_classes)" if y is None else "no targets y: there is nothing to scale"
            raise ValueError(f"with task={self.task!r} and num_classes={self.num_classes} fit_scaling takes {wanted}")
        self.scaling.fit(x, "x")
        if y is not None and self.target_scaling is not None:
            self.target_scaling.fit(y, "y")

    def forward_head(
        self, x: Float[Tensor, "batch features"], pre_logits: bool = False
    ) -> Float[Tensor, "batch outputs"]:
        """Logits, or the targets of a regression in their units; with `pre_logits` the features are given back."""
        y = super().forward_head(x, pre_logits)
        return y if self.target_scaling is None or pre_logits else self.target_scaling.back(y)

    def _rows(self, x: Tensor) -> Tensor:
        if x.ndim != 2 or x.shape[1] != self.in_features:
            raise ValueError(f"expected rows (batch, {self.in_features}), got {tuple(x.shape)}; in_features= sets this")
        return self.scaling(x).to(next(self.kan.parameters()).dtype)


def _texts(argument: str, texts: Sequence[str] | None, count: int) -> list[str] | None:
    if texts is None:
        return None
    if isinstance(texts, str) or len(texts) != count or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{argument} must be {count} texts, got {texts!r}")
    twice = next((text for text in texts if argument == "feature_names" and list(texts).count(text) > 1), None)
    if twice is not None:
        raise ValueError(f"feature_names must all be different, {twice!r} is there twice or more")
    return list(texts)


def kan_tabular(
    num_classes: int = 2,
    *,
    in_features: int = 8,
    task: str = "classification",
    hidden_sizes: Sequence[int] = (8,),
    layer: str = "efficient",
    layer_options: Mapping[str, Any] | None = None,
    own_knots: Sequence[int] = (),
    masked: Sequence[int] = (),
    feature_names: Sequence[str] | None = None,
    feature_units: Sequence[str] | None = None,
    target_units: Sequence[str] | None = None,
    registered: str = "kan_tabular",
    pretrained_cfg: Any = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> TabularKAN:
    """`TabularKAN` with B-splines on [-3, 3], which standardised columns seldom leave.

    Args:
        num_classes, in_features, task, hidden_sizes, layer, layer_options, own_knots, masked: see `TabularKAN`.
        feature_names, feature_units, target_units: see `TabularKAN`.
        registered: the name under which the catalogue has these arguments.
    """
    if layer_options is None and layer == "efficient":
        layer_options = {"grid_range": (-3.0, 3.0)}
    if pretrained_cfg is not None and target_units is not None and len(target_units) != num_classes:
        target_units = None  # a saved model is asked for other targets than it had
    model = TabularKAN(
        in_features,
        num_classes,
        task=task,
        hidden_sizes=hidden_sizes,
        layer=layer,
        layer_options=layer_options,
        own_knots=own_knots,
        masked=masked,
        feature_names=feature_names,
        feature_units=feature_units,
        target_units=target_units,
        device=device,
        dtype=dtype,
    )
    return described(model, pretrained_cfg, registered)
