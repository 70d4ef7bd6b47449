"""What of a layer is dead, and what to do about it."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from zoo.layers.tversky.explanation import prototypes_of
from zoo.layers.tversky.functional import check_rows, measure

_SHOWN = 12
# Trained layers reach a few tens; from "uniform" banks of a thousand numbers a row it is a million at the start.
_WIDE = 50.0


@dataclass(frozen=True)
class Diagnosis:
    """The state of a `TverskyProjection` on some inputs.

    Args:
        num_inputs, num_features, num_prototypes: sizes.
        membership: of the layer.
        dead_prototypes: those in which no feature is present. Under hard membership their gradient is exactly zero:
            they can never recover of themselves.
        dead_features: those present in none of the inputs.
        unused_features: those present in no prototype.
        always_on_features: those present in all of the inputs.
        theta, alpha, beta: as they count.
        features_per_input, features_per_prototype: present on average.
        logit_mean, logit_std: of the outputs.
    """

    num_inputs: int
    num_features: int
    num_prototypes: int
    membership: str
    dead_prototypes: list[int]
    dead_features: list[int]
    unused_features: list[int]
    always_on_features: list[int]
    theta: float
    alpha: float
    beta: float
    features_per_input: float
    features_per_prototype: float
    logit_mean: float
    logit_std: float

    @property
    def lost_features(self) -> list[int]:
        """Features in none of the inputs and in no prototype: under hard membership their gradient is exactly zero."""
        return sorted(set(self.dead_features) & set(self.unused_features))

    def to_dict(self) -> dict[str, Any]:
        """Numbers, names and lists, ready for JSON; `lost_features` too."""
        return {**asdict(self), "lost_features": self.lost_features}

    def advice(self) -> list[str]:
        """What to do, a sentence each; nothing where all is well."""
        tips = []
        if self.membership == "hard" and (self.dead_prototypes or self.lost_features):
            tips.append(
                "Some prototypes or features are dead and get no gradient: train with membership='ste', or put a "
                "vector in place of a prototype with set_prototype(index, vector)."
            )
        if len(self.dead_features) > self.num_features // 2:
            tips.append(
                "Most features are in none of these inputs: fewer num_features would do, or look at more inputs."
            )
        if len(self.always_on_features) > self.num_features // 2:
            tips.append(
                "Most features are in every input, so that nothing is ever missing and beta learns little: take "
                "init='scaled_uniform', or inputs centred at 0."
            )
        if self.logit_std > _WIDE:
            tips.append(
                f"The outputs spread by {self.logit_std:.3g}, at the start of training too far for a softmax: take "
                "init='scaled_uniform', scale='rsqrt_features' or normalize=True."
            )
        below = [name for name in ("theta", "alpha", "beta") if getattr(self, name) < 0]
        if below:
            tips.append(
                f"{' and '.join(below)} fell below 0, which turns its part around; nonnegative=True forbids it."
            )
        return tips

    def __str__(self) -> str:
        lines = [
            f"{self.num_prototypes} prototypes, {self.num_features} features, {self.num_inputs} inputs",
            f"theta {self.theta:.4g}, alpha {self.alpha:.4g}, beta {self.beta:.4g}",
            f"features present: {self.features_per_input:.1f} an input, {self.features_per_prototype:.1f} a prototype",
            f"outputs: mean {self.logit_mean:.4g}, standard deviation {self.logit_std:.4g}",
            f"dead prototypes (no feature present): {_some(self.dead_prototypes)}",
            f"dead features (in no input): {_some(self.dead_features)}",
            f"unused features (in no prototype): {_some(self.unused_features)}",
            f"always-on features (in every input): {_some(self.always_on_features)}",
        ]
        return "\n".join([*lines, *(f"-> {tip}" for tip in self.advice())])


def _some(numbers: list[int]) -> str:
    if not numbers:
        return "none"
    more = f", … ({len(numbers)})" if len(numbers) > _SHOWN else ""
    return ", ".join(map(str, numbers[:_SHOWN])) + more


@torch.no_grad()
def diagnose(layer: Any, x: Float[Tensor, "*batch width"]) -> Diagnosis:
    """Find dead prototypes, dead features and features that are always on.

    Args:
        layer: a `TverskyProjection`.
        x: (*batch, in_features), inputs of the layer; the more, the more certain is what is dead.

    Raises:
        ValueError: no input, one of another width, or one that is not finite.
        TypeError: a layer without prototypes.
    """
    rows, bank = prototypes_of(layer).weight, layer.feature_bank.weight
    check_rows(x, rows, bank)
    x = x.reshape(-1, x.shape[-1])
    if not len(x):
        raise ValueError("diagnose needs at least one input, got none")
    if not bool(x.isfinite().all()):
        raise ValueError("x holds NaN or infinity, which have no features: look for its cause before this layer")
    in_inputs, in_prototypes = (m > 0 for m in measure(x, rows, bank, layer.normalize))
    outputs = layer(x).float()
    theta, alpha, beta = (float(weight) for weight in layer.scalars())
    return Diagnosis(
        num_inputs=x.shape[0],
        num_features=bank.shape[0],
        num_prototypes=rows.shape[0],
        membership=layer.membership,
        dead_prototypes=_where(~in_prototypes.any(1)),
        dead_features=_where(~in_inputs.any(0)),
        unused_features=_where(~in_prototypes.any(0)),
        always_on_features=_where(in_inputs.all(0)),
        theta=theta,
        alpha=alpha,
        beta=beta,
        features_per_input=float(in_inputs.sum(1).float().mean()),
        features_per_prototype=float(in_prototypes.sum(1).float().mean()),
        logit_mean=float(outputs.mean()),
        logit_std=float(outputs.std(correction=0)),
    )


def _where(mask: Tensor) -> list[int]:
    return mask.nonzero().flatten().tolist()
