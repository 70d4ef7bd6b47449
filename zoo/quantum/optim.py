"""The learning rule of Farhi and Neven.

Source: "Classification with Quantum Neural Networks on Near Term Processors" (2018, arXiv 1802.06002).
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class FarhiNevenSGD(torch.optim.Optimizer):
    """theta <- theta - rate (loss / |g|^2) g, with the gradient g of the loss of one sample.

    To first order a step of rate 1 would bring the loss to 0; a small rate does not undo what other samples taught.
    The norm is over all parameters. A gradient of 0 changes nothing. The step needs the loss and so takes a closure,
    as `torch.optim.LBFGS` does:

        def closure():
            optimizer.zero_grad()
            loss = qnn.loss(qnn(bits[i : i + 1]), labels[i : i + 1])
            loss.backward()
            return loss

        optimizer.step(closure)

    Args:
        params: the parameters, in one group.
        rate: from above 0 to 1.

    Raises:
        ValueError: a rate out of range, several groups; in the step, a loss that is not finite.
        TypeError: in the step, no closure.
    """

    def __init__(self, params: Iterable[nn.Parameter] | Iterable[dict[str, Any]], rate: float = 0.05) -> None:
        if not 0 < rate <= 1:
            raise ValueError(f"rate must be above 0 and at most 1, got {rate!r}")
        super().__init__(params, {"rate": rate})
        if len(self.param_groups) > 1:
            raise ValueError(f"FarhiNevenSGD takes one group of parameters, got {len(self.param_groups)}")

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step; gives the loss before it.

        Args:
            closure: clears gradients, computes the loss and its gradient, and returns the loss.
        """
        if closure is None:
            raise TypeError("FarhiNevenSGD.step takes a closure that computes the loss: its size is in the step")
        with torch.enable_grad():
            loss = closure()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ValueError(f"the loss is {value}: nothing to learn from")
        group = self.param_groups[0]
        grads = [parameter.grad for parameter in group["params"] if parameter.grad is not None]
        square = float(sum(grad.square().sum() for grad in grads))
        if square > 0:
            with torch.no_grad():
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.sub_(parameter.grad, alpha=group["rate"] * value / square)
        return loss
