"""What the layers of the family share: their features, the three weights of the similarity, and their options."""

import math
import warnings
from collections.abc import Collection
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from zoo.layers.tversky import interpretation
from zoo.layers.tversky.banks import INITS, Bank, SharedBank, as_bank
from zoo.layers.tversky.options import (
    BACKENDS,
    MEMBERSHIPS,
    SCALARS,
    check_choice,
    check_reductions,
    check_size,
    scale_factor,
)

#: theta, alpha and beta at the start.
_START = {"theta": 1.0, "alpha": 0.5, "beta": 0.5}


class TverskyBase(nn.Module):
    """A bank of features and the weights theta, alpha, beta; see `TverskyProjection` for the options."""

    __constants__: ClassVar[list[str]] = ["nonnegative"]

    def __init__(
        self,
        in_features: int,
        num_features: int | None,
        *,
        similarity: str,
        intersection: str,
        difference: str,
        normalize: bool,
        per_feature: bool,
        init: str,
        learn_scalars: bool | Collection[str],
        nonnegative: bool,
        scale: float | str | None,
        membership: str,
        backend: str,
        feature_bank: Any,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        check_size("in_features", in_features)
        if num_features is not None:
            check_size("num_features", num_features)
        self.difference = check_reductions(similarity, intersection, difference, per_feature)
        check_choice("membership", membership, MEMBERSHIPS)
        check_choice("backend", backend, BACKENDS)
        check_choice("init", init, INITS)
        for name, value in (("normalize", normalize), ("per_feature", per_feature), ("nonnegative", nonnegative)):
            if not isinstance(value, bool):
                raise TypeError(f"{name} must be True or False, got {value!r}")
        if dtype is not None and not dtype.is_floating_point:
            raise TypeError(f"dtype must be a floating type, got {dtype}")
        learned = _learned(learn_scalars, similarity)
        self.in_features = in_features
        self.similarity = similarity
        self.intersection = intersection
        self.normalize = normalize
        self.per_feature = per_feature
        self.membership = membership
        self.backend = backend
        self.init = init
        self.nonnegative = nonnegative
        if feature_bank is None:
            num_features = min(in_features, 256) if num_features is None else num_features
            self.feature_bank: Any = Bank(num_features, in_features, init=init, device=device, dtype=dtype)
        else:
            self.feature_bank = as_bank("feature_bank", feature_bank, (num_features, in_features))
            num_features = int(self.feature_bank.shape[0])
            check_place("feature_bank", self.feature_bank, device, dtype)
        self.num_features: int = num_features
        self.scale = scale_factor(scale, self.num_features)
        for name in SCALARS:
            value = torch.empty((), device=device, dtype=dtype)
            stored = f"raw_{name}" if self.nonnegative else name
            if name in learned:
                self.register_parameter(stored, nn.Parameter(value))
            else:
                self.register_buffer(stored, value)
        self._reset_scalars()

    @torch.no_grad()
    def _reset_scalars(self) -> None:
        for name, value in _START.items():
            if self.nonnegative:
                getattr(self, f"raw_{name}").fill_(math.log(math.expm1(value)))
            else:
                getattr(self, name).fill_(value)

    def reset_parameters(self) -> None:
        """Draw the banks that are the layer's own; theta, alpha, beta to 1, 0.5, 0.5. Shared banks stay."""
        if isinstance(self.feature_bank, nn.Module):
            self.feature_bank.reset_parameters()  # pyright: ignore[reportCallIssue]
        self._reset_scalars()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Takes theta, alpha and beta as the other kind of layer (`nonnegative` or not) stores them, too."""
        for name in SCALARS:
            plain, raw = f"{prefix}{name}", f"{prefix}raw_{name}"
            if self.nonnegative and plain in state_dict and raw not in state_dict:
                value = state_dict.pop(plain)
                if bool(value > 0):
                    state_dict[raw] = value.double().expm1().log().to(value.dtype)
                else:
                    args[-1].append(f"{plain} is {float(value):.3g}; with nonnegative=True it must be above 0")
            elif not self.nonnegative and raw in state_dict and plain not in state_dict:
                state_dict[plain] = softplus(state_dict.pop(raw))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def scalars(self):
        # type: () -> Tuple[Tensor, Tensor, Tensor]
        """theta, alpha and beta as they count; with `nonnegative`, the softplus of what is stored."""
        if self.nonnegative:
            return (
                softplus(self.raw_theta),  # pyright: ignore[reportArgumentType]
                softplus(self.raw_alpha),  # pyright: ignore[reportArgumentType]
                softplus(self.raw_beta),  # pyright: ignore[reportArgumentType]
            )
        return self.theta, self.alpha, self.beta

    def stored_scalars(self) -> tuple[Tensor, ...]:
        """theta, alpha and beta as they are stored."""
        prefix = "raw_" if self.nonnegative else ""
        return tuple(getattr(self, f"{prefix}{name}") for name in SCALARS)

    def reductions(self) -> dict[str, Any]:
        """Keywords of `compare_measures` that say what the layer computes."""
        return {
            "similarity": self.similarity,
            "intersection": self.intersection,
            "difference": self.difference,
            "per_feature": self.per_feature,
            "membership": self.membership,
            "backend": self.backend,
        }

    def similarity_options(self) -> dict[str, Any]:
        """Keywords of `tversky_similarity` that say what the layer computes."""
        return {**dict(zip(SCALARS, self.scalars(), strict=True)), "normalize": self.normalize, **self.reductions()}

    feature_activations = interpretation.feature_activations
    salience = interpretation.salience
    feature_sets = interpretation.feature_sets
    read_feature = interpretation.read_feature

    def extra_repr(self) -> str:
        parts = [f"similarity={self.similarity!r}", f"intersection={self.intersection!r}"]
        parts.append(f"difference={self.difference!r}")
        parts += [f"{name}=True" for name in ("normalize", "per_feature", "nonnegative") if getattr(self, name)]
        if self.membership != "hard":
            parts.append(f"membership={self.membership!r}")
        if self.scale != 1.0:
            parts.append(f"scale={self.scale:.4g}")
        if isinstance(self.feature_bank, SharedBank):
            parts.append("shared feature_bank")
        return ", ".join(parts)


def _learned(learn_scalars: bool | Collection[str], similarity: str) -> tuple[str, ...]:
    """Names of the weights that are parameters; the others are buffers."""
    if isinstance(learn_scalars, bool):
        every = SCALARS if similarity == "contrast" else SCALARS[1:]  # theta has no part in the ratio model
        return every if learn_scalars else ()
    if not isinstance(learn_scalars, Collection):
        raise TypeError(f"learn_scalars must be True, False or names among {SCALARS}, got {learn_scalars!r}")
    names = (learn_scalars,) if isinstance(learn_scalars, str) else tuple(learn_scalars)
    for name in names:
        check_choice("learn_scalars", name, SCALARS)
    if similarity == "ratio" and "theta" in names:
        raise ValueError(
            "learn_scalars names 'theta', which has no part in similarity='ratio'; name 'alpha', 'beta', or pass True"
        )
    return names


def check_place(argument: str, bank: Any, device: Any, dtype: torch.dtype | None) -> None:
    """Refuse a shared bank of another dtype or device than the layer is made for.

    Raises:
        ValueError: they differ.
    """
    if not isinstance(bank, SharedBank):
        return
    weight = bank.weight
    wanted_dtype = torch.get_default_dtype() if dtype is None else dtype
    wanted_device = torch.get_default_device() if device is None else torch.device(device)
    if weight.dtype != wanted_dtype:
        raise ValueError(f"{argument} is {weight.dtype}, the layer {wanted_dtype}; pass dtype={weight.dtype}")
    if weight.device.type != wanted_device.type:
        raise ValueError(f"{argument} is on {weight.device}, the layer on {wanted_device}; pass device={weight.device}")


def warn_blind(similarity: str, intersection: str, difference: str, per_feature: bool, init: str) -> None:
    """Warn of the one pair of reductions that a softmax cannot learn from positive banks."""
    if (similarity, intersection, difference, per_feature, init) == (
        "contrast",
        "min",
        "substractmatch",
        False,
        "uniform",
    ):
        warnings.warn(
            "intersection='min' with difference='substractmatch' from init='uniform' does not learn under a softmax: "
            "the part of the input's own features is the same for every class and cancels; take another init, "
            "another pair, or per_feature=True",
            stacklevel=4,
        )
