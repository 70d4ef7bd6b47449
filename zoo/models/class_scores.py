"""Models whose output is no row of class scores: what they say themselves of their output.

Such a model defines `as_logits(output)`, which makes (B, K) logits of what its forward returns: all that measures,
predicts or exports asks for these. It may define `loss(output, target)` too, on its own output and class numbers (B,),
which training then uses in the place of cross-entropy.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


def as_logits(model: nn.Module, output: Any) -> Any:
    """The output as logits (B, K), by the model's own `as_logits`; as it is where the model has none.

    Args:
        model: the model, or one that Accelerate wrapped.
        output: what its forward returned.
    """
    own = getattr(getattr(model, "module", model), "as_logits", None)
    return output if own is None else own(output)


def own_loss(model: nn.Module) -> Callable[[Any, Tensor], Tensor] | None:
    """The model's own loss of (output, class numbers (B,)); None where cross-entropy is meant."""
    return getattr(model, "loss", None) if hasattr(model, "as_logits") else None
