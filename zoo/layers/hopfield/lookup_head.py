"""A classifier of prototypes: each stands for a label, and an input is given the labels of those it recalls."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from zoo.layers.hopfield.hopfield import Hopfield
from zoo.layers.hopfield.lookup import HopfieldLayer
from zoo.layers.hopfield.options import check_keywords, positive_int

#: Probability of a class when the association is with its prototypes alone.
_SURE = 0.99
_FIXED = ("separate_targets", "project_value", "norm_value", "project_out", "value_dim", "value_in_dim", "num_heads")


class HopfieldLookupHead(nn.Module):
    """Prototypes in the space of the features, each with a label:  y = sum_i softmax(beta LN(x) LN(p)^T)_i t_i + b.

    Nothing is projected unless asked for, so a prototype is a feature vector, which training samples can start
    (`set_prototypes`), and the association tells which of them decided.

    Shapes: (*, in_features) -> (*, out_features).

    Args:
        in_features: width of the features.
        out_features: classes, or outputs.
        bias: add b.
        quantity: prototypes; 4 for each class, but at least 16, if None. Prototype i starts with the label
            i % out_features.
        trainable, trainable_targets: train the prototypes, and their targets.
        learn_beta: learn the inverse temperature.
        options: of `Hopfield`, but for what reads the values. As the rows of a batch must not depend on each other,
            further updates are made without a test (`tol=None`) or with `stop="state"`.

    Raises:
        ValueError, TypeError: as `HopfieldLayer`; options that the head fixes.

    Source: Ramsauer et al., "Hopfield Networks is All You Need" (2021, arXiv 2008.02217).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        quantity: int | None = None,
        trainable: bool = True,
        trainable_targets: bool = True,
        learn_beta: bool = True,
        tol: float | None = None,
        stop: str = "state",
        project_stored: bool = False,
        project_state: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        check_keywords(HopfieldLookupHead, options, Hopfield)
        if fixed := [name for name in _FIXED if name in options]:
            raise TypeError(f"the head itself sets {', '.join(fixed)}; use HopfieldLayer for other values")
        if tol is not None and stop == "association":
            raise ValueError("rows must not depend on each other: with a tol, stop must be 'state', got 'association'")
        self.in_features = positive_int("in_features", in_features)
        self.out_features = positive_int("out_features", out_features)
        self.lookup = HopfieldLayer(
            in_features,
            quantity=max(4 * out_features, 16) if quantity is None else quantity,
            trainable=trainable,
            separate_targets=True,
            trainable_targets=trainable_targets,
            num_heads=1,
            value_dim=out_features,
            head_dim=options.pop("head_dim", in_features),
            beta=options.pop("beta", 1 / math.sqrt(in_features)),
            learn_beta=learn_beta,
            tol=tol,
            stop=stop,
            norm_value=False,
            project_stored=project_stored,
            project_state=project_state,
            project_value=False,
            project_out=False,
            device=device,
            dtype=dtype,
            **options,
        )
        self.bias = nn.Parameter(torch.empty(out_features, device=device, dtype=dtype)) if bias else None
        self._reset_own()

    @torch.no_grad()
    def _reset_own(self) -> None:
        labels = torch.arange(self.lookup.quantity, device=self.lookup.stored_patterns.device) % max(
            self.out_features, 2
        )
        self._targets().copy_(self._logits(labels))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def reset_parameters(self) -> None:
        """Prototypes as `HopfieldLayer`, their targets by their labels, a bias of 0."""
        self.lookup.reset_parameters()
        self._reset_own()

    def _targets(self) -> Tensor:
        assert self.lookup.target_patterns is not None
        return self.lookup.target_patterns

    def _logits(self, labels: Tensor) -> Tensor:
        """Targets of labels: such that a class recalled alone has the probability 0.99."""
        if self.out_features == 1:
            scale = math.log(_SURE / (1 - _SURE))
            return (2.0 * labels - 1).unsqueeze(-1) * scale
        scale = math.log(_SURE / (1 - _SURE) * (self.out_features - 1))
        return F.one_hot(labels, self.out_features) * scale

    @torch.no_grad()
    def set_prototypes(self, x: Float[Tensor, "quantity in_features"], labels: Shaped[Tensor, " quantity"]) -> None:
        """Start from samples.

        Args:
            x: their features, one for each prototype.
            labels: their classes as integers; with one output, 0 or 1.

        Raises:
            ValueError: another number of samples, or labels out of range.
        """
        classes = max(self.out_features, 2)
        if labels.is_floating_point() or (labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < classes):
            raise ValueError(f"labels must be integers from 0 to {classes - 1}, got {labels}")
        self.lookup.store(x, self._logits(labels.long()).to(self._targets()))

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        if x.shape[-1] != self.in_features:
            raise ValueError(f"the last axis of x must have {self.in_features} features, got {tuple(x.shape)}")
        y = self.lookup(x.reshape(1, -1, self.in_features)).reshape(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"
