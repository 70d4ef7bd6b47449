"""The tensors of one call of a circuit, checked and laid out as the simulations take them."""

import cmath
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from zoo.eager import must_compose
from zoo.naming import did_you_mean
from zoo.quantum.circuit import Circuit
from zoo.quantum.gates import complex_type, real_type

_NAMES = {"weights": "weights", "inputs": "features", "state": "amplitudes"}
#: Types whose circuits are computed in float32.
_LOW = (torch.float16, torch.bfloat16)
#: The norm of a state is 1 up to this, or to the rounding of its type.
_OFF = 1e-4
#: A tensor, numbers, or numbers by name.
Values = Tensor | Sequence[Any] | Mapping[str, Any] | float | int | None


@dataclass(frozen=True)
class Call:
    """One call: leading dimensions as one batch, everything of one type.

    Args:
        circuit: what is simulated.
        weights: (W,), or (B, W) of each sample; float32 or float64.
        inputs: (I,) or (B, I), of the same type.
        state: (B, 2^n) or (1, 2^n) complex, or None for every wire in 0.
        lead: the leading dimensions of the results; () if nothing has any, although there is a batch of 1 then.
        dtype: the type of real results: that of what was given.
    """

    circuit: Circuit
    weights: Tensor
    inputs: Tensor
    state: Tensor | None
    lead: tuple[int, ...]
    dtype: torch.dtype

    @property
    def batch(self) -> int:
        return math.prod(self.lead)

    def needs_gradient(self) -> bool:
        tensors = (self.weights, self.inputs, self.state)
        return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)

    def repeated(self, times: int, state: Tensor | None) -> "Call":
        """The same call that many times, sample by sample within each, with states for all of it."""
        if self.state is not None and len(self.state) > 1 and state is None:
            state = self.state.repeat(times, 1)
        return replace(
            self,
            weights=self.weights if self.weights.dim() == 1 else self.weights.repeat(times, 1),
            inputs=self.inputs if self.inputs.dim() == 1 else self.inputs.repeat(times, 1),
            state=self.state if state is None else state,
            lead=(times * self.batch,),
        )

    def finish(self, result: Tensor) -> Tensor:
        """(B, ...) or (1, ...) -> (*lead, ...), real results in the type of what was given."""
        shape = (*self.lead, *result.shape[1:])
        if result.shape != shape:
            result = result.expand(self.batch, *result.shape[1:]).reshape(shape)
        return result.to(self.dtype) if result.is_floating_point() else result


def prepare(circuit: Circuit, weights: Values, inputs: Values, state: Tensor | None, dtype: torch.dtype | None) -> Call:
    """Check what a call was given and lay it out.

    Args:
        circuit: what is simulated.
        weights: (W,) for all samples or (*, W): a tensor, numbers, or numbers by name.
        inputs: (*, I) features.
        state: (*, 2^n) amplitudes to begin with.
        dtype: a floating type to give back; by default that of the tensors. Lower precisions than float32 are computed
            in float32.

    Raises:
        ValueError: another count of weights or features than the circuit has; batches that differ; numbers that are not
            finite; a state whose norm is not 1.
        TypeError: complex or integer weights or features; what is no tensor and no numbers.
    """
    exact = torch.float32 if dtype in _LOW else dtype
    if exact is not None:
        complex_type(exact)
    given_weights = _real("weights", _by_name(circuit, weights), circuit.n_weights, exact)
    given_inputs = _real("inputs", inputs, circuit.n_inputs, exact)
    if state is not None and not isinstance(state, Tensor):
        raise TypeError(f"state is a tensor of amplitudes, got {type(state).__name__}; torch.tensor(...) makes one")
    if state is not None and (state.dim() == 0 or state.shape[-1] != 2**circuit.n_qubits):
        raise ValueError(
            f"a state of {circuit.n_qubits} qubits has {2**circuit.n_qubits} amplitudes, got {tuple(state.shape)}"
        )
    if state is not None and not (state.is_complex() or state.is_floating_point()):
        state = state.to(exact or torch.get_default_dtype())
    given = [t for t in (given_weights, given_inputs, state) if t is not None]
    result = dtype or _common(given)
    real = torch.float64 if result == torch.float64 else torch.float32
    device = given[0].device if given else None
    vectors = [torch.empty(0, dtype=real, device=device) if t is None else t for t in (given_weights, given_inputs)]
    named = {"weights": vectors[0], "inputs": vectors[1]}
    if not must_compose(*vectors):
        for what, tensor in named.items():
            if tensor.numel() and not tensor.is_meta:
                _check_finite(what, tensor.detach())
    if state is not None:
        check_amplitudes(state)
        named["state"] = state
    lead = _lead({what: tensor.shape[:-1] for what, tensor in named.items()})
    weights_, inputs_ = _flat(vectors[0].to(real), lead), _flat(vectors[1].to(real), lead)
    state_ = None if state is None else _rows(state.to(complex_type(real)), lead)
    return Call(circuit, weights_, inputs_, state_, tuple(lead), result)


def check_amplitudes(state: Tensor) -> None:
    """Refuse what is no state; nothing is looked at under compilation and transforms.

    Args:
        state: (*, 2^n) amplitudes.

    Raises:
        ValueError: a number that is not finite, or a norm that is not 1.
    """
    if not (must_compose(state) or state.is_meta):
        _check_finite("state", state.detach())
        _check_norm(state.detach())


def _by_name(circuit: Circuit, weights: Values) -> Values:
    if isinstance(weights, Tensor) or not isinstance(weights, Mapping):
        return weights
    names = circuit.weight_names
    for name in weights:
        if name not in names:
            raise ValueError(f"no weight is named {name!r}{did_you_mean(name, names)}")
    missing = [name for name in names if name not in weights]
    if missing:
        raise ValueError(f"no value for the weights {', '.join(map(repr, missing))}")
    numbers = [torch.as_tensor(weights[name], dtype=None) for name in names]
    return torch.stack([n if n.is_floating_point() else n.to(torch.get_default_dtype()) for n in numbers], dim=-1)


def _real(what: str, values: Values, count: int, dtype: torch.dtype | None) -> Tensor | None:
    """(*, count) floating tensor."""
    if values is None:
        if count:
            raise ValueError(f"the circuit has {count} {what}, got none: give {what}=")
        return None
    if not isinstance(values, Tensor):
        values = _as_tensor(what, values, dtype or torch.get_default_dtype())
    if values.is_complex() or not values.is_floating_point():
        raise TypeError(f"{what} must be real and floating, got {values.dtype}; call .float() or .real first")
    if values.dim() == 0 and count == 1:
        values = values.reshape(1)
    if values.dim() == 0 or values.shape[-1] != count:
        raise ValueError(f"the circuit has {count} {what}, got a tensor of shape {tuple(values.shape)}")
    return values if dtype is None else values.to(dtype)


def _common(given: list[Tensor]) -> torch.dtype:
    """The real type of what was given together."""
    if not given:
        return torch.get_default_dtype()
    result = given[0].dtype
    for tensor in given[1:]:
        if tensor.dtype != result:
            result = torch.promote_types(result, tensor.dtype)
    return real_type(result)


def _as_tensor(what: str, values: Any, dtype: torch.dtype) -> Tensor:
    try:
        return torch.as_tensor(values, dtype=dtype)
    except (TypeError, ValueError, RuntimeError) as error:
        by_name = ", or a dict of numbers by name" if what == "weights" else ""
        raise TypeError(f"{what} are a tensor or numbers{by_name}, got {type(values).__name__} {values!r}") from error


def _check_finite(what: str, values: Tensor) -> None:
    # A finite sum has finite terms, and is one small operation.
    if cmath.isfinite(values.sum().item()) or bool(values.isfinite().all()):
        return
    place = tuple((~values.isfinite()).nonzero()[0].tolist())
    raise ValueError(f"{_NAMES[what]} must be finite, got {values[place].item()} at index {place}")


def _check_norm(state: Tensor) -> None:
    norms = state.reshape(-1, state.shape[-1]).norm(dim=-1)
    off = (norms - 1).abs()
    if bool((off > max(_OFF, 8 * torch.finfo(state.dtype).eps)).any()):
        raise ValueError(
            f"the amplitudes of a state have norm 1, got {norms[int(off.argmax())].item():.6g} "
            "(state / state.norm(dim=-1, keepdim=True) has 1)"
        )


def _lead(shapes: dict[str, torch.Size]) -> torch.Size:
    """What the leading dimensions broadcast to; mostly one alone has any."""
    some = {what: shape for what, shape in shapes.items() if shape}
    try:
        return torch.broadcast_shapes(*some.values()) if len(some) > 1 else next(iter(some.values()), torch.Size())
    except RuntimeError as error:
        given = ", ".join(f"{what} {tuple(shape)}" for what, shape in some.items())
        raise ValueError(f"the leading dimensions do not go together: {given}") from error


def _flat(values: Tensor, lead: torch.Size) -> Tensor:
    """(W,) as it is, (*, W) as (B, W)."""
    return values if values.dim() == 1 else _rows(values, lead)


def _rows(values: Tensor, lead: torch.Size) -> Tensor:
    """(*, k) as (B, k)."""
    if values.dim() == 2 and values.shape[:1] == lead:
        return values
    return values.expand(*lead, values.shape[-1]).reshape(math.prod(lead), values.shape[-1])
