"""The convolutional tree: before neighbours are merged, unitaries act across the borders of the pairs.

The state between two levels is a chain of tensors (a matrix product state), which needs no truncation: a unitary across
the border between two pairs lets the bond there grow by the factor D and merging halves the number of sites, so that T
words need bonds of at most T / 2 amplitudes where the dense state has 2**T.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Inexact, Int
from torch import Tensor

from zoo.quantum.mps.narrowing import narrow, widest
from zoo.quantum.qtn.ptn import gather
from zoo.quantum.qtn.scan import Rescaler


def convolutional_state(
    words: Inexact[Tensor, "words dim"],
    disentanglers: Inexact[Tensor, "rules dim dim dim dim"],
    boxes: Inexact[Tensor, "rules dim dim dim"],
    tokens: Int[Tensor, "batch length"],
    absent: Bool[Tensor, "batch length"] | None,
    rescale: Rescaler | None,
    max_bond: int | None = None,
) -> Inexact[Tensor, "batch dim"]:
    """The state at the root.

    Args:
        words: states.
        disentanglers: (R, D, D, D, D), as two out, two in; they act on sites (1, 2), (3, 4), ...
        boxes: (R, D, D, D), as out, left, right; they merge sites (0, 1), (2, 3), ... As the disentanglers one for all
            levels, or one a level, the leaves' first.
        tokens: a power of two of them a sample.
        absent: where there is no word, behind the last one; what would meet nothing stays as it is.
        rescale: divides the tensors of the chain by their largest number after every level; None leaves them.
        max_bond: wider bonds are narrowed to this, and the result is near the exact one; None for no limit.
    """
    states = gather(words, tokens)
    _, sites, dim = states.shape
    if absent is not None:
        nothing = torch.zeros(dim, dtype=states.dtype, device=states.device)
        nothing[0] = 1
        states = torch.where(absent.unsqueeze(-1), nothing, states)
    # The tensors of the chain are (left bond, D, right bond); the bonds at its ends have one state.
    first, last = states[:, 0, None, :, None], states[:, -1, None, :, None]
    inner, level = states[:, 1:-1, None, :, None], 0
    while sites > 2:
        row = level if boxes.shape[0] > 1 else 0
        unitary, box = _at_level(disentanglers[row], boxes[row], absent, sites)
        pairs = torch.einsum("bnlxm,bnmyr->bnlxyr", inner[:, 0::2], inner[:, 1::2])
        pairs = torch.einsum("bnuvxy,bnlxyr->bnluvr", unitary, pairs)
        # A pair is split into all of it on the left, and on the right what tells which of its states is meant. So the
        # new bond is a site and the bond behind it, and merging only has to fill in the site before it.
        first = torch.einsum("boxy,blxm,bmyvr->blovr", box[:, 0], first, pairs[:, 0]).flatten(3)
        middle = torch.einsum("bnoxy,bnmyvr->bnxmovr", box[:, 1:-1], pairs[:, 1:]).flatten(5).flatten(2, 3)
        last = torch.einsum("boxy,bmyr->bxmor", box[:, -1], last).flatten(1, 2)
        if rescale is not None:
            first, last, middle = rescale(first, 3), rescale(last, 3), rescale(middle, 3)
        if max_bond is not None and first.shape[-1] > max_bond:
            first, middle, last = _narrowed(first, middle, last, max_bond)
        inner = middle
        sites, level = sites // 2, level + 1
        absent = None if absent is None else absent[:, 0::2]
    _, box = _at_level(disentanglers[0], boxes[level if boxes.shape[0] > 1 else 0], absent, sites)
    return torch.einsum("boxy,blxm,bmyr->bo", box[:, 0], first, last)


def _narrowed(first: Tensor, inner: Tensor, last: Tensor, max_bond: int) -> tuple[Tensor, Tensor, Tensor]:
    """The chain with bonds of `max_bond` states at most, all as wide as the widest."""
    sites = [first, *inner.unbind(1), last]
    narrow(sites, max_bond, max_bond)
    bond = widest(sites[:-1])
    first = F.pad(sites[0], (0, bond - sites[0].shape[-1]))
    last = F.pad(sites[-1], (0, 0, 0, 0, 0, bond - sites[-1].shape[1]))
    middle = [F.pad(s, (0, bond - s.shape[-1], 0, 0, 0, bond - s.shape[1])) for s in sites[1:-1]]
    return first, torch.stack(middle, 1) if middle else inner[..., :bond, :, :bond], last


def _at_level(unitary: Tensor, box: Tensor, absent: Tensor | None, sites: int) -> tuple[Tensor, Tensor]:
    """What acts across borders, (B or 1, n / 2 - 1, D, D, D, D), and what merges pairs, (B or 1, n / 2, D, D, D)."""
    unitary, box = (part.expand(1, sites // 2, *part.shape) for part in (unitary, box))
    unitary = unitary[:, 1:]
    if absent is None:
        return unitary, box
    dim = box.shape[-1]
    one = torch.eye(dim, dtype=box.dtype, device=box.device)
    unchanged = torch.einsum("ux,vy->uvxy", one, one)
    left = torch.einsum("ox,y->oxy", one, one[0])
    return (
        torch.where(absent[:, 2::2, None, None, None, None], unchanged, unitary),
        torch.where(absent[:, 1::2, None, None, None], left, box),
    )
