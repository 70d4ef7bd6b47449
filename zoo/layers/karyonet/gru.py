"""Bidirectional GRUs over long sequences: torch's parameters, and a recurrence that does both directions at once."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from zoo.eager import autocasts, must_compose
from zoo.layers.karyonet.recurrence import gru_recurrence


def run_gru(
    gru: nn.GRU, x: Float[Tensor, "steps batch width"], lengths: Int[Tensor, " batch"] | None = None
) -> Float[Tensor, "steps batch out"]:
    """What a bidirectional `torch.nn.GRU` gives from a zero state, for sequences of different lengths too.

    On a CPU in float32 and float64 it takes a recurrence of our own: of the two directions, and of all sequences, a
    step is one product, and the backward pass is written by hand. Elsewhere, and wherever operations must be torch's
    (compiled, under `torch.func`, autocast), torch's own runs: on a GPU that is cuDNN's.

    Args:
        gru: two directions, time first, without dropout.
        x: sequences; what stands behind the end of one is not read.
        lengths: of the sequences; None: all are whole.

    Returns:
        Both directions' states; behind the end of a sequence, anything.
    """
    weights = [weight for layer in gru.all_weights for weight in layer]
    ours = (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and not must_compose(x, *weights)
        and not autocasts(x)
        and all(weight.dtype == x.dtype for weight in weights)
    )
    return (_both_ways if ours else _torch)(gru, x, lengths)


def _torch(gru: nn.GRU, x: Tensor, lengths: Tensor | None) -> Tensor:
    if lengths is None:
        return gru(x)[0]
    packed, _ = gru(pack_padded_sequence(x, lengths.cpu(), enforce_sorted=False))
    return pad_packed_sequence(packed, total_length=len(x))[0]


def _both_ways(gru: nn.GRU, x: Tensor, lengths: Tensor | None) -> Tensor:
    turn = _turn(x, lengths)
    for forth, back in zip(gru.all_weights[::2], gru.all_weights[1::2], strict=True):
        (w_x, w_h, b_x, b_h), (v_x, v_h, c_x, c_h) = forth, back
        gates = functional.linear(x, torch.cat([w_x, v_x]), torch.cat([b_x, c_x]))
        there, reverse = gates.chunk(2, dim=-1)
        inputs = torch.stack([there, _reverse(reverse, turn)], dim=1)
        states = gru_recurrence(inputs, torch.stack([w_h, v_h]), torch.stack([b_h, c_h]))
        x = torch.cat([states[:, 0], _reverse(states[:, 1], turn)], dim=-1)
    return x


def _turn(x: Tensor, lengths: Tensor | None) -> Tensor | None:
    """For every step the one of the reversed sequence, [T, B]; steps behind the end stay where they are."""
    if lengths is None:
        return None
    steps = torch.arange(len(x))[:, None]
    return torch.where(steps < lengths, lengths - 1 - steps, steps)


def _reverse(x: Tensor, turn: Tensor | None) -> Tensor:
    return x.flip(0) if turn is None else x[turn, torch.arange(x.shape[1])]
