"""The same networks in plain words: states of two wires, merged one after the other; what the layer is held to."""

import torch
from torch import Tensor

from zoo.quantum.qtn.layer import QTN
from zoo.quantum.simulate import unitary


def reference_probabilities(net: QTN, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
    """As `net(tokens, lengths)`: sample by sample, on density matrices of all wires there are, without rescaling.

    Memory grows as 4**(q T) in a CTN, and with it the work; a post-selected sequence of a hundred words underflows.
    """
    grid = net.grid(tokens, lengths)
    rows = []
    for k in range(grid.tokens.shape[0]):
        there = slice(None) if grid.absent is None else ~grid.absent[k]
        rows.append(_probabilities(net, grid.tokens[k][there].tolist()))
    return torch.stack(rows) if rows else net.words.weight.new_zeros(0, net.num_classes)


def _probabilities(net: QTN, sequence: list[int]) -> Tensor:
    words = unitary(net._wire.circuit, net.words.weight)[:, :, 0]
    wires = [torch.outer(words[t], words[t].conj()) for t in sequence]
    if net.topology == "ctn":
        rho = _tree_of_all(net, wires)
    else:
        rho = _pairs(net, wires)
    last = unitary(net._wire.circuit, net.readout.weight)[0]
    rho = last @ rho @ last.mH
    bits = (net.num_classes - 1).bit_length()
    first = (net.qubits - bits + 1) // 2
    rho = _keep(rho, net.qubits, list(range(first, first + bits)), net.post_select)
    found = rho.diagonal().real[: net.num_classes]
    return found / found.sum()


def _pairs(net: QTN, wires: list[Tensor]) -> Tensor:
    boxes = _rules(net, "rules")

    def merged(left: Tensor, right: Tensor, rule: int) -> Tensor:
        box = boxes[rule if len(boxes) > 1 else 0]
        both = box @ torch.kron(left, right) @ box.mH
        return _keep(both, 2 * net.qubits, list(range(0, 2 * net.qubits, 2)), net.post_select)

    if net.topology == "ptn":
        state = wires[0]
        for step, word in enumerate(wires[1:]):
            state = merged(state, word, step)
        return state
    level = 0
    while len(wires) > 1:
        pairs = [wires[k : k + 2] for k in range(0, len(wires), 2)]
        wires = [merged(*pair, level) if len(pair) == 2 else pair[0] for pair in pairs]
        level += 1
    return wires[0]


def _tree_of_all(net: QTN, wires: list[Tensor]) -> Tensor:
    across, boxes = (_rules(net, name) for name in ("disentangler", "isometry"))
    q, rho = net.qubits, wires[0]
    for word in wires[1:]:
        rho = torch.kron(rho, word)
    sites, level = len(wires), 0
    while sites > 1:
        rule = level if len(boxes) > 1 else 0
        for layer, start in ((across, 1), (boxes, 0)):
            for site in range(start, sites - 1, 2):
                rho = _on(rho, layer[rule], site * q, sites * q)
        odd = [site * q + wire for site in range(sites // 2 * 2) for wire in range(q) if (site % 2 * q + wire) % 2]
        rho = _keep(rho, sites * q, [wire for wire in range(sites * q) if wire not in odd], net.post_select)
        sites, level = (sites + 1) // 2, level + 1
    return rho


def _rules(net: QTN, name: str) -> Tensor:
    return unitary(net._pair.circuit, net.get_parameter(f"{name}.weight"))


def _on(rho: Tensor, box: Tensor, wire: int, wires: int) -> Tensor:
    """A matrix on wires from `wire` on."""
    dim = box.shape[0]
    before = torch.eye(2**wire, dtype=box.dtype, device=box.device)
    behind = torch.eye(2**wires // (2**wire * dim), dtype=box.dtype, device=box.device)
    full = torch.kron(torch.kron(before, box.contiguous()), behind)
    return full @ rho @ full.mH


def _keep(rho: Tensor, wires: int, kept: list[int], post_select: bool) -> Tensor:
    """The density matrix of some wires: of the others 0 is found, or nothing is known."""
    dims = rho.reshape([2] * (2 * wires))
    gone = [wire for wire in range(wires) if wire not in kept]
    for wire in reversed(gone):
        half = dims.ndim // 2
        dims = (
            dims.select(half + wire, 0).select(wire, 0) if post_select else dims.diagonal(0, wire, half + wire).sum(-1)
        )
    return dims.reshape(2 ** len(kept), 2 ** len(kept))
