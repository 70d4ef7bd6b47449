"""States of the data qubits: of bits, of whole classes, and with the readout."""

from typing import Any

import torch
from jaxtyping import Complex, Shaped
from torch import Tensor

from zoo.eager import must_compose
from zoo.quantum.farhi_neven.branches import READOUT_STATES
from zoo.quantum.farhi_neven.labels import as_labels

#: How far the norm of a state may be from 1.
_TOLERANCE = 1e-3


def check_bits(bits: Tensor, n: int) -> None:
    """Refuse what is no batch of n bits; while it is traced or transformed, values are not looked at.

    Raises:
        ValueError: another shape; NaN; other numbers than 0 and 1.
        TypeError: complex numbers, or no tensor.
    """
    if not isinstance(bits, Tensor):
        raise TypeError(f"bits must be a tensor (batch, {n}), got {type(bits).__name__}; torch.as_tensor")
    if bits.ndim != 2 or bits.shape[1] != n:
        raise ValueError(f"expected bits (batch, {n}), got {tuple(bits.shape)}; n_data= sets this")
    if bits.is_complex():
        raise TypeError(f"bits are 0 and 1, got {bits.dtype}; forward_state and forward_product take states")
    if must_compose(bits) or bits.is_meta:
        return
    wrong = (bits != 0) & (bits != 1)
    if bool(wrong.any()):
        row, column = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"bits must be 0 and 1, got {bits[row, column].item():g} at sample {row}, bit {column}; grey values become "
            "bits by a threshold: (x > 0.5).long()"
        )


def check_states(states: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse states of another shape, or that are not normalised.

    Raises:
        ValueError: naming the sample.
        TypeError: no tensor.
    """
    if not isinstance(states, Tensor):
        raise TypeError(f"states must be a tensor, got {type(states).__name__}; torch.as_tensor")
    if tuple(states.shape[1:]) != shape:
        raise ValueError(f"expected states (batch, {', '.join(map(str, shape))}), got {tuple(states.shape)}")
    if must_compose(states):
        return
    norms = states.detach().abs().square().sum(-1)
    wrong = ~((norms - 1).abs() < _TOLERANCE)
    if bool(wrong.any()):
        place = wrong.nonzero()[0].tolist()
        raise ValueError(f"states must be normalised, the square of the norm at {place} is {norms[tuple(place)]:g}")


def basis_states(bits: Shaped[Tensor, "batch n"], *, dtype: torch.dtype) -> Complex[Tensor, "batch states"]:
    """|z>, (B, 2**n), bit 0 the most significant."""
    states = torch.zeros(len(bits), 2 ** bits.shape[1], dtype=dtype, device=bits.device)
    return states.scatter(1, _places(bits)[:, None], 1)


def _places(bits: Tensor) -> Tensor:
    """Which amplitude is that of |z>, (B,)."""
    return (bits.long() << torch.arange(bits.shape[1] - 1, -1, -1, device=bits.device)).sum(1)


def superposition(
    bits: Shaped[Tensor, "strings n"], *, dtype: torch.dtype, generator: torch.Generator | None = None
) -> Complex[Tensor, " states"]:
    """The uniform superposition of distinct strings, (2**n,), with a random phase each if there is a generator."""
    phases = torch.zeros(len(bits), dtype=torch.float64)
    if generator is not None:
        phases = 2 * torch.pi * torch.rand(len(bits), generator=generator, dtype=torch.float64)
    factors = torch.polar(torch.full_like(phases, len(bits) ** -0.5), phases)
    state = torch.zeros(2 ** bits.shape[1], dtype=dtype, device=bits.device)
    return state.scatter(0, _places(bits), factors.to(state))


def with_readout(psi: Complex[Tensor, "batch states"], readout_init: str) -> Complex[Tensor, "batch twice"]:
    """Data qubits and the readout behind them, (B, 2 * states)."""
    readout = torch.tensor(READOUT_STATES[readout_init], dtype=psi.dtype, device=psi.device)
    return (psi[:, :, None] * readout).flatten(1)


def distinct_strings(
    bits: Shaped[Tensor, "strings n"], label: Any
) -> tuple[Shaped[Tensor, "some n"], Shaped[Tensor, " some"], dict[str, int]]:
    """Each string once, without those that carry more than one label.

    Few bits leave few patterns: images of 4 by 4 bits have far fewer of them than a data set has images, and some stand
    for several classes. The paper drops those.

    Args:
        bits: strings.
        label: +1 and -1, or 1 and 0; a tensor, an array or a list.

    Returns:
        Strings, their labels, and counts: `strings` given, `distinct` ones, `ambiguous` ones, which are left out with
        the `images` that have them.

    Raises:
        ValueError: other labels, or another number of them; bits that are not 0 and 1.
        TypeError: labels that are no numbers; bits that are no tensor.
    """
    check_bits(bits, bits.shape[-1] if isinstance(bits, Tensor) and bits.ndim else 1)
    label = as_labels(label, bits.shape[:1], bits.device)
    unique, which, count = bits.unique(dim=0, return_inverse=True, return_counts=True)
    which, labels = which.cpu(), label.long().cpu()
    some = torch.zeros(len(unique), dtype=torch.int64)
    low, high = (some.scatter_reduce(0, which, labels, kind, include_self=False) for kind in ("amin", "amax"))
    clear = (low == high).to(bits.device)
    counts = {
        "strings": len(bits),
        "distinct": len(unique),
        "ambiguous": int((~clear).sum()),
        "images": int(count[~clear].sum()),
    }
    return unique[clear], low.to(label)[clear], counts
