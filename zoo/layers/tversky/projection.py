"""The Tversky projection: a linear layer whose outputs are similarities to prototypes."""

from collections.abc import Collection
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.eager import must_compose
from zoo.layers.tversky import interpretation
from zoo.layers.tversky.banks import Bank, SharedBank, as_bank
from zoo.layers.tversky.base import TverskyBase, check_place, warn_blind
from zoo.layers.tversky.cross_entropy import tversky_cross_entropy
from zoo.layers.tversky.functional import check_rows, compare_measures, measure, tversky_similarity
from zoo.layers.tversky.inference import (
    TverskyLinear,
    TverskySums,
    has_lifted_weight,
    lifted_similarity,
    lifted_weight,
    linear_form,
)
from zoo.layers.tversky.options import check_size
from zoo.layers.tversky.reference import reference_similarity
from zoo.weight_cache import WeightCache

# Numbers that a layer keeps for inference without being asked: a gigabyte in float32.
_KEPT = 2**28
# Multiplications that keeping them saves, from which it is worth asking whether they still hold.
_WORTH = 1_000_000


class TverskyProjection(TverskyBase):
    """Tversky's similarity of the input to each of P learned prototypes, over F learned features.

    Shapes: (*, in_features) -> (*, out_features). State dict: `feature_bank.weight` (F, d), `prototypes.weight`
    (P, d), `theta`, `alpha`, `beta`: the names of the authors' library. (P + F) d + 3 numbers; there is no bias.

    Args:
        in_features: width of the inputs, d.
        out_features: prototypes, P; classes, when the layer is a classifier.
        num_features: features, F; min(d, 256) if None, or as many as a given bank has.
        bias: taken so that the layer fits where a linear layer was, and unused.
        similarity, intersection, difference, normalize, per_feature, membership, backend: see `tversky_similarity`.
        init: of the banks that are the layer's own: "scaled_uniform", "uniform" (the authors'), "symmetric_uniform",
            "normal", "orthogonal"; see `zoo.layers.tversky.banks.draw`.
        learn_scalars: learn theta, alpha and beta: True, False, or the names of those that are learned. The ratio
            model has no theta to learn.
        nonnegative: keep theta, alpha and beta above 0: stored before a softplus, as `raw_theta`, `raw_alpha`,
            `raw_beta`; `scalars()` gives their values, and state dicts of either kind load.
        scale: a constant factor of the output; "rsqrt_features" for 1 / sqrt(F).
        feature_bank, prototypes: a bank to share instead of an own one: an `nn.Parameter`, an `nn.Embedding` or
            another module with a matrix `weight`, or another layer of the family. It stays its owner's: it is not
            among this layer's parameters nor in its state dict. Share a module rather than its parameter: loading
            weights may put another parameter into the module.

    Raises:
        ValueError: a size below 1, an unknown name, a shared bank of another shape, dtype or device; in the call, an
            input of another width.
        TypeError: something that is no bank; in the call, an integer input.

    Source: "Tversky Neural Networks: Psychologically Plausible Deep Learning with Differentiable Tversky Similarity"
    (2025, arXiv 2506.11035).
    """

    #: The part whose `weight` has a row a class, for those who look for a classifier's matrix.
    class_rows: ClassVar[str] = "prototypes"

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_features: int | None = None,
        *,
        bias: bool = True,
        similarity: str = "contrast",
        intersection: str = "product",
        difference: str = "ignorematch",
        normalize: bool = False,
        per_feature: bool = False,
        init: str = "scaled_uniform",
        learn_scalars: bool | Collection[str] = True,
        nonnegative: bool = False,
        scale: float | str | None = None,
        membership: str = "hard",
        backend: str = "auto",
        feature_bank: Any = None,
        prototypes: Any = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_size("out_features", out_features)
        super().__init__(
            in_features,
            num_features,
            similarity=similarity,
            intersection=intersection,
            difference=difference,
            normalize=normalize,
            per_feature=per_feature,
            init=init,
            learn_scalars=learn_scalars,
            nonnegative=nonnegative,
            scale=scale,
            membership=membership,
            backend=backend,
            feature_bank=feature_bank,
            device=device,
            dtype=dtype,
        )
        warn_blind(similarity, intersection, self.difference, per_feature, init)
        self.out_features = out_features
        self._cache = WeightCache()
        if prototypes is None:
            self.prototypes: Any = Bank(out_features, in_features, init=init, device=device, dtype=dtype)
        else:
            self.prototypes = as_bank("prototypes", prototypes, (out_features, in_features))
            check_place("prototypes", self.prototypes, device, dtype)

    def reset_parameters(self) -> None:
        """Draw the banks that are the layer's own; theta, alpha, beta to 1, 0.5, 0.5. Shared banks stay."""
        super().reset_parameters()
        if isinstance(self.prototypes, nn.Module):
            self.prototypes.reset_parameters()  # pyright: ignore[reportCallIssue]

    def forward(
        self,
        x: Float[Tensor, "*batch in_features"],
        prototypes: Float[Tensor, "others in_features"] | None = None,
        feature_bank: Float[Tensor, "features in_features"] | None = None,
    ) -> Float[Tensor, "*batch others"]:
        # type: (Tensor, Optional[Tensor], Optional[Tensor]) -> Tensor
        """Similarities of x to the prototypes.

        Args:
            x: (*, in_features).
            prototypes, feature_bank: for this call, instead of the layer's own.
        """
        rows = self.prototypes.weight if prototypes is None else prototypes
        bank = self.feature_bank.weight if feature_bank is None else feature_bank
        y = self._scripted(x, rows, bank) if torch.jit.is_scripting() else self._compared(x, rows, bank)
        return y if self.scale == 1.0 else y * self.scale

    def cross_entropy(
        self,
        x: Float[Tensor, "*batch in_features"],
        target: Tensor,
        *,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
        chunk_tokens: int | None = None,
    ) -> Float[Tensor, "..."]:
        """`F.cross_entropy(self(x), target)` without the matrix of similarities; see `tversky_cross_entropy`.

        Args:
            x: (*, in_features).
            target: (*), int64.
            ignore_index, label_smoothing, reduction, chunk_tokens: see `tversky_cross_entropy`.
        """
        return tversky_cross_entropy(
            x,
            self.prototypes.weight,
            self.feature_bank.weight,
            target,
            **self.similarity_options(),
            scale=self.scale,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            reduction=reduction,
            chunk_tokens=chunk_tokens,
        )

    @torch.jit.unused
    def _compared(self, x, prototypes, feature_bank):
        # type: (Tensor, Tensor, Tensor) -> Tensor
        kept = self._kept(prototypes, feature_bank)
        if kept is None:
            return tversky_similarity(x, prototypes, feature_bank, **self.similarity_options())
        check_rows(x, prototypes, feature_bank)
        A = measure(x, prototypes[:0], feature_bank, self.normalize)[0]
        if has_lifted_weight(self.similarity, self.intersection, self.difference):
            return lifted_similarity(A, *kept)
        theta, alpha, beta = self.scalars()
        y = compare_measures(A.reshape(-1, A.shape[-1]), kept[0].to(A.dtype), theta, alpha, beta, **self.reductions())
        return y.view(*x.shape[:-1], prototypes.shape[0])

    def _kept(self, prototypes: Tensor, feature_bank: Tensor) -> tuple[Any, ...] | None:
        """What follows from the parameters alone, in evaluation without gradients; None where it is made anew.

        The weight and bias of the lifted inputs, for a similarity that is linear in them, else the measures of the
        prototypes.
        """
        if self.training or torch.is_grad_enabled() or self.membership != "hard":
            self._cache.clear()
            return None
        lifted = has_lifted_weight(self.similarity, self.intersection, self.difference)
        numbers = prototypes.shape[0] * feature_bank.shape[0] * (2 if lifted else 1)
        work = prototypes.numel() * feature_bank.shape[0]
        if (work < _WORTH or numbers > _KEPT) and not self._cache.frozen:
            return None
        tensors = (prototypes, feature_bank, *self.stored_scalars())
        if must_compose(*tensors) or not all(isinstance(t, nn.Parameter) for t in tensors[:2]):
            return None

        def build() -> tuple[Tensor | None, ...]:
            Q = measure(prototypes[:0], prototypes, feature_bank, self.normalize)[1]
            theta, alpha, beta = self.scalars()
            return lifted_weight(Q, theta, alpha, beta, self.intersection) if lifted else (Q,)

        return self._cache.get(tensors, build)

    def train(self, mode: bool = True) -> "TverskyProjection":
        """Training or evaluation mode; what was kept for inference is forgotten either way."""
        self._cache.clear()
        return super().train(mode)

    def freeze(self, dtype: torch.dtype | None = None) -> "TverskyProjection":
        """Keep what inference makes of the parameters whatever its size and in `dtype`, if given (bfloat16, say).

        In evaluation without gradients the layer keeps it by itself up to a gigabyte in float32, until a parameter
        changes. `thaw` undoes this.

        Args:
            dtype: in which it is kept and multiplied; None for that of the parameters.

        Raises:
            TypeError: no floating type.
        """
        self._cache.freeze(dtype)
        return self

    def thaw(self) -> "TverskyProjection":
        """Forget what `freeze` kept."""
        self._cache.thaw()
        return self

    def to_linear(self) -> TverskyLinear | TverskySums:
        """The layer with its parameters as constants, in matrix products: for ONNX, TorchScript and `torch.export`.

        Contrast with product or mean and ignorematch, at either level, is a product, a threshold and a product; other
        sums at the set level are three products and a minimum.

        Raises:
            ValueError: soft membership, or other reductions feature by feature, which are no matter of matrix products.
        """
        options = self.similarity_options()
        del options["backend"]
        form = linear_form(self.prototypes.weight, self.feature_bank.weight, scale=self.scale, **options)
        return form.train(self.training)

    prototype_sets = interpretation.prototype_sets
    set_prototype = interpretation.set_prototype
    explain = interpretation.explain
    diagnose = interpretation.diagnose
    asymmetry = interpretation.asymmetry

    def _scripted(self, x, prototypes, feature_bank):
        # type: (Tensor, Tensor, Tensor) -> Tensor
        theta, alpha, beta = self.scalars()
        A, Q = measure(x, prototypes, feature_bank, self.normalize)
        y = reference_similarity(
            A.reshape(-1, A.shape[-1]),
            Q,
            theta,
            alpha,
            beta,
            self.similarity,
            self.intersection,
            self.difference,
            self.per_feature,
            self.membership,
        )
        return y.view(x.shape[:-1] + y.shape[-1:])

    def extra_repr(self) -> str:
        shared = ", shared prototypes" if isinstance(self.prototypes, SharedBank) else ""
        return f"{self.in_features}, {self.out_features}, {self.num_features}, {super().extra_repr()}{shared}"
