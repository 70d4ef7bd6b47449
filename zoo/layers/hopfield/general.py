"""The softmax Hopfield update on attention kernels, which keep no association matrix."""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor

from zoo.layers.hopfield.attention import attend
from zoo.layers.hopfield.maps import masked_softmax
from zoo.layers.hopfield.reference import Associated
from zoo.layers.hopfield.stopping import association_changed
from zoo.layers.hopfield.updates import Held, moved, settle


def general_association(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    mask: Tensor | None = None,
    *,
    num_updates: Sequence[int],
    tol: Sequence[float] | None = None,
    stop: str = "association",
    post: Callable[[Tensor], Tensor] | None = None,
    dropout_p: float = 0.0,
    need_association: bool = False,
) -> Associated:
    """Associate states with stored patterns by softmax, again and again, and read the values out.

        q = post(softmax(beta q k^T + mask) k), as often as asked;   result = dropout(softmax(beta q k^T + mask)) v

    The test of stop="association" makes the two matrices that it compares anew, a few samples at a time.

    See `hopfield_association` for arguments and shapes; `num_updates`, `beta` and `tol` are one a head here.
    """
    factor = beta.to(q.dtype).view(-1, 1, 1)
    mask = None if mask is None else mask[(None,) * (4 - mask.ndim)]
    if q.shape[0] == 1:
        batch = next((x.shape[0] for x in (k, v, mask) if x is not None and x.shape[0] != 1), 1)
        q = q.expand(batch, -1, -1, -1)

    def step(states: Tensor) -> Held:
        new = attend(states * factor, k, k, mask)
        return (new if post is None else post(new),)

    def changed(old: Held, new: Held, limit: Tensor) -> Tensor:
        if stop == "state":
            return moved(old[0], new[0]) > limit
        return association_changed(old[0] * factor, new[0] * factor, k, mask, limit)

    (states,), counts = settle((q,), step, changed, num_updates, tol)
    states = states * factor
    if not need_association:
        return Associated(attend(states, k, v, mask, dropout_p=dropout_p), None, counts)
    scores = states @ k.transpose(-1, -2)
    association = masked_softmax(scores if mask is None else scores + mask)
    return Associated(F.dropout(association, dropout_p) @ v, association, counts)
