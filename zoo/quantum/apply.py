"""A gate's matrix applied to states: plain torch operations."""

from collections.abc import Sequence

from torch import Tensor


def split_wires(wires: Sequence[int], n: int) -> tuple[list[int], list[int], list[int]]:
    """How to see 2^n amplitudes so that each of `wires` has an axis of its own and the others share as few as they can.

    Returns:
        The sizes of the axes, the axes of `wires` in their order, the other axes.
    """
    sizes, axes, start = [], {}, 0
    for wire in sorted(wires):
        if wire > start:
            sizes.append(2 ** (wire - start))
        axes[wire] = len(sizes)
        sizes.append(2)
        start = wire + 1
    if start < n:
        sizes.append(2 ** (n - start))
    chosen = [axes[wire] for wire in wires]
    return sizes, chosen, [axis for axis in range(len(sizes)) if axis not in chosen]


def apply_matrix(state: Tensor, matrix: Tensor, wires: Sequence[int], n: int) -> Tensor:
    """(B, 2^n) states after a matrix on some wires; differentiable in both.

    Args:
        state: (B, 2^n), or (1, 2^n) for one state and B matrices.
        matrix: (d, d) or (B, d, d), d = 2^len(wires); the first wire is its most significant bit.
        wires: distinct wires.
        n: the number of wires of the state.
    """
    sizes, chosen, rest = split_wires(wires, n)
    order = [0, *(axis + 1 for axis in chosen), *(axis + 1 for axis in rest)]
    moved = state.reshape(state.shape[0], *sizes).permute(order)
    d = 2 ** len(chosen)
    after = matrix @ moved.reshape(state.shape[0], d, 2**n // d)
    back = [order.index(axis) for axis in range(len(order))]
    return after.reshape(after.shape[0], *moved.shape[1:]).permute(back).reshape(after.shape[0], 2**n)
