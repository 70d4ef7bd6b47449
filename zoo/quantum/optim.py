"""Rules by which circuits learn: that of Farhi and Neven, and the natural gradient."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from zoo.naming import did_you_mean
from zoo.quantum.layer import QuantumLayer

BLOCKS = ("layer", "full")


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

    Source: "Classification with Quantum Neural Networks on Near Term Processors" (2018, arXiv 1802.06002).
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


class QuantumNaturalGradient(torch.optim.Optimizer):
    """w <- w - lr (g + damping I)^-1 grad for the weights of circuits, with the metric g of their states.

    A step is as long as it moves the state, not as long as it moves the angles. Every other parameter (input scales,
    read-outs, other layers) takes the plain step p <- p - lr grad.

    g is `zoo.quantum.metric_tensor` over the last batch that each layer was called with while gradients were recorded;
    hooks on the layers remember it.

    Args:
        module: a `QuantumLayer`, or a model with some.
        lr: learning rate.
        damping: added to the diagonal of g, which is singular where a weight does not move the state. The metric of a
            rotation of |0> is 1/4.
        blocks: "layer" takes g without what lies between layers of an ansatz (a circuit of one's own is one block),
            "full" all of it.

    Raises:
        ValueError: no circuit with weights in the module; a layer with shots, noise, post-selections or channels;
            numbers that are not above 0; unknown blocks.
        TypeError: parameters in place of a module.
        RuntimeError: in the step, weights with a gradient of a layer that was not called.

    Source: Stokes et al. (2020, arXiv 1909.02108).
    """

    def __init__(self, module: nn.Module, lr: float = 0.01, damping: float = 1e-3, blocks: str = "layer") -> None:
        if not isinstance(module, nn.Module):
            raise TypeError(
                "QuantumNaturalGradient takes the module itself, which it asks for its metric, not its parameters; "
                f"got {type(module).__name__}"
            )
        for name, value in (("lr", lr), ("damping", damping)):
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be above 0 and finite, got {value!r}")
        if blocks not in BLOCKS:
            raise ValueError(
                f"blocks must be one of {', '.join(map(repr, BLOCKS))}, got {blocks!r}{did_you_mean(blocks, BLOCKS)}"
            )
        super().__init__(module.parameters(), {"lr": lr, "damping": damping, "blocks": blocks})
        layers = [part for part in module.modules() if isinstance(part, QuantumLayer) and part.weights is not None]
        if not layers:
            raise ValueError(
                f"{type(module).__name__} has no QuantumLayer with weights: a plain optimizer does the same"
            )
        for layer in layers:
            _check_pure(layer)
        self._layers = {layer.weights: (layer, _LastInput()) for layer in layers}
        for layer, last in self._layers.values():
            layer.register_forward_pre_hook(last, with_kwargs=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step.

        Args:
            closure: computes the loss and its gradient anew.

        Returns:
            What the closure gave, if there is one.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    direction = self._direction(parameter, parameter.grad, group)
                    parameter.sub_(direction, alpha=group["lr"])
        return loss

    def _direction(self, parameter: nn.Parameter, grad: Tensor, group: dict[str, Any]) -> Tensor:
        if parameter not in self._layers:
            return grad
        layer, last = self._layers[parameter]
        if last.x is None:
            raise RuntimeError("a natural gradient is of a batch: call the layer, with gradients, before the step")
        blocks = len(parameter) if group["blocks"] == "layer" and parameter.dim() > 1 else 1
        metric = layer.metric_tensor(last.x, blocks)
        metric.diagonal(dim1=-2, dim2=-1).add_(group["damping"])
        columns = grad.to(metric.dtype).reshape(blocks, -1, 1)
        return torch.cholesky_solve(columns, torch.linalg.cholesky(metric)).reshape(grad.shape).to(grad.dtype)


class _LastInput:
    """A hook that keeps what a layer was last given while gradients were recorded; copies begin without."""

    def __init__(self) -> None:
        self.x: Tensor | None = None

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if torch.is_grad_enabled():
            self.x = (args[0] if args else kwargs["x"]).detach()

    def __getstate__(self) -> dict[str, Any]:
        return {"x": None}


def _check_pure(layer: QuantumLayer) -> None:
    """Refuse a layer that no pure state belongs to.

    Raises:
        ValueError: naming what there is.
    """
    found = {
        f"shots={layer.shots}": layer.shots is not None,
        "noise": layer.noise is not None,
        "post-selections or channels": not layer.circuit.unitary_only,
    }
    if there := [name for name, is_there in found.items() if is_there]:
        raise ValueError(f"the natural gradient is of pure states, exactly computed; the layer has {', '.join(there)}")
