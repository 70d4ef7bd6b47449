"""The recurrence of gated recurrent units, all directions of a layer at once, with its own backward pass."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable


def gru_recurrence(
    inputs: Float[Tensor, "steps ways batch gates"],
    weight: Float[Tensor, "ways gates width"],
    bias: Float[Tensor, "ways gates"],
) -> Float[Tensor, "steps ways batch width"]:
    """h_t = (1 - z) n + z h_{t-1} from h_0 = 0, for directions that run side by side.

    r, z = sigmoid(x + W h + b) and n = tanh(x + r (W h + b)), as `torch.nn.GRU` has them.

    The directions are one batched product a step. Of the backward pass only dh_{t-1} = z dh_t + W' (c_t dh_t) runs
    step by step: the factors c_t are those of all steps at once, and the gradient of W is one product at the end. It
    can be differentiated once.

    Args:
        inputs: x = W_ih x_t + b_ih of every step, in the order r, z, n; a reversed direction's are reversed in time.
        weight: W_hh.
        bias: b_hh.

    Returns:
        h_t of every step.
    """
    return _Recurrence.apply(inputs, weight, bias)  # pyright: ignore[reportReturnType]


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        steps, ways, batch, _ = inputs.shape
        width = weight.shape[2]
        # gates becomes r, z and W_n h + b_n, new becomes n; states[t] is h_t, states[0] = 0.
        gates = bias[:, None].repeat(steps, 1, batch, 1)
        gates[..., : 2 * width] += inputs[..., : 2 * width]
        new = inputs[..., 2 * width :].contiguous()
        states = inputs.new_zeros(steps + 1, ways, batch, width)
        across = weight.transpose(1, 2)
        pairs = gates[..., : 2 * width].unbind(0)
        reset, update, recurrent = (part.unbind(0) for part in gates.split(width, -1))
        state, *following = states.unbind(0)
        for t, (gate, candidate) in enumerate(zip(gates.unbind(0), new.unbind(0), strict=True)):
            gate.baddbmm_(state, across)
            pairs[t].sigmoid_()
            candidate.addcmul_(reset[t], recurrent[t]).tanh_()
            state = torch.lerp(candidate, state, update[t], out=following[t])
        ctx.save_for_backward(gates, new, states, weight)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gates, new, states, weight = ctx.saved_tensors
        width = weight.shape[2]
        reset, update, recurrent = gates.split(width, -1)
        before = states[:-1]
        to_new = (1 - update) * (1 - new * new)
        factors = torch.stack(
            [to_new * recurrent * reset * (1 - reset), (before - new) * update * (1 - update), to_new * reset], dim=3
        )
        d_gates = torch.empty_like(factors)
        flat = d_gates.flatten(3)
        d_state = grads[0].clone(memory_format=torch.contiguous_format)
        at, spread, out, kept = (part.unbind(0) for part in (d_state, d_state.unsqueeze(3), flat, update))
        factor, target = factors.unbind(0), d_gates.unbind(0)
        for t in range(len(at) - 1, 0, -1):
            torch.mul(spread[t], factor[t], out=target[t])
            at[t - 1].addcmul_(at[t], kept[t]).baddbmm_(out[t], weight)
        torch.mul(spread[0], factor[0], out=target[0])
        d_inputs = torch.cat([flat[..., : 2 * width], d_state * to_new], dim=-1) if ctx.needs_input_grad[0] else None
        d_weight = None
        if ctx.needs_input_grad[1]:
            d_weight = torch.stack(
                [flat[:, way].flatten(0, 1).T @ before[:, way].flatten(0, 1) for way in range(len(weight))]
            )
        return d_inputs, d_weight, flat.sum((0, 2)) if ctx.needs_input_grad[2] else None
