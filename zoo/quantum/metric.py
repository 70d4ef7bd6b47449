"""How far the state of a circuit moves with its weights: the metric of Fubini and Study."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from zoo.eager import no_autocast
from zoo.quantum.circuit import Circuit
from zoo.quantum.engine import evolve
from zoo.quantum.integers import integer
from zoo.quantum.memory import Run, check_memory
from zoo.quantum.running.call import Call, Values, prepare

#: Amplitudes of derivatives that are held at once, unless one sample has more.
_AT_ONCE = 2**22
#: Amplitudes that are carried through a circuit at once, which takes the memory of some more.
_CARRIED = 2**18


def metric_tensor(
    circuit: Circuit,
    weights: Values,
    inputs: Values = None,
    *,
    state: Shaped[Tensor, "*start amplitudes"] | None = None,
    layers: int | None = None,
    dtype: torch.dtype | None = None,
) -> Float[Tensor, "*layers block block"]:
    """g_ij = Re(<d_i psi|d_j psi> - <d_i psi|psi><psi|d_j psi>), the mean over the samples; exact, without a gradient.

    To second order 1 - |<psi(w)|psi(w + d)>|^2 = d^T g d. It is symmetric, positive semidefinite, and a quarter of the
    quantum Fisher information.

    Args:
        circuit: gates alone.
        weights: (W,), the same for all samples; as in `zoo.quantum.state`.
        inputs, state, dtype: see `zoo.quantum.state`.
        layers: of how many equally long runs of weights the blocks on the diagonal are wanted.

    Returns:
        (W, W), or (layers, W / layers, W / layers).

    Raises:
        ValueError: post-selections or channels, no weights, weights of each sample, no samples, a number of layers
            that does not divide W; see `zoo.quantum.state`.
        CircuitTooLarge: the derivatives of one state do not fit into memory.

    Source: Stokes et al. (2020, arXiv 1909.02108).
    """
    if not circuit.unitary_only:
        raise ValueError("the metric is of pure states that gates alone make: no post-selections, no channels")
    call = prepare(circuit, weights, inputs, state, dtype)
    if not circuit.n_weights:
        raise ValueError(f"{circuit} has no weights that its state could move with")
    if call.weights.dim() > 1:
        raise ValueError(f"the metric is of weights that all samples share, ({circuit.n_weights},), got a row for each")
    if not call.batch:
        raise ValueError("the metric is a mean over samples, got none")
    count = 1 if layers is None else integer("layers", layers)
    if circuit.n_weights % count:
        raise ValueError(f"layers must divide the {circuit.n_weights} weights, got {layers}")
    size = circuit.n_weights // count
    with no_autocast(call.weights):
        found = torch.stack([_block(call, first, size) for first in range(0, circuit.n_weights, size)])
    return (found[0] if layers is None else found).to(call.dtype)


def _block(call: Call, first: int, size: int) -> Tensor:
    """(size, size): the metric in weights first, first + 1, ..."""
    rows = max(1, min(call.batch, _AT_ONCE // (size * 2**call.circuit.n_qubits)))
    run = Run(call.circuit, rows, call.weights.dtype, call.weights.device, gradient=True, columns=size)
    check_memory(run, "statevector")
    before, block, after = call.weights.detach().tensor_split([first, first + size])
    directions = torch.eye(size, dtype=block.dtype, device=block.device)
    total: Tensor | None = None
    for start in range(0, call.batch, rows):
        inputs, state = (_samples(given, start, rows) for given in (call.inputs, call.state))

        def psi(moved: Tensor, inputs=inputs, state=state) -> Tensor:
            return evolve(call.circuit, torch.cat([before, moved, after]), inputs, state)

        def move(direction: Tensor, psi=psi) -> Tensor:
            return torch.func.jvp(psi, (block,), (direction,))[1]

        at = psi(block).unsqueeze(-1)
        chunk = max(1, _CARRIED // (rows * 2**call.circuit.n_qubits))
        moves = torch.func.vmap(move, out_dims=-1, chunk_size=chunk)(directions)  # (rows, 2^n, size)
        # A move along psi turns its phase alone. What is left has the metric as its Gram matrix.
        moves -= at @ (at.mH @ moves)
        parts = torch.view_as_real(moves).movedim(-1, 0).flatten(0, 2)
        gram = parts.mT @ parts
        total = gram if total is None else total + gram
    assert total is not None  # there are samples
    return total / call.batch


def _samples(given: Tensor | None, start: int, rows: int) -> Tensor | None:
    """Some rows of what each sample has its own of."""
    if given is None:
        return None
    return given.detach() if given.dim() == 1 or len(given) == 1 else given.detach()[start : start + rows]
