"""The association of a modern Hopfield network as one function: the way in to whatever computes it fastest."""

from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor

from zoo.layers.hopfield.general import general_association
from zoo.layers.hopfield.maps import ASSOCIATIONS
from zoo.layers.hopfield.options import STOPS, check_choice, counts_per_head, positive_per_head
from zoo.layers.hopfield.reference import Associated, reference_association


def hopfield_association(
    q: Float[Tensor, "..."],
    k: Float[Tensor, "..."],
    v: Float[Tensor, "..."],
    beta: Float[Tensor, " heads"],
    mask: Float[Tensor, "..."] | None = None,
    *,
    num_updates: int | Sequence[int] = 1,
    tol: float | Sequence[float] | None = None,
    stop: str = "association",
    association: str = "softmax",
    alpha: Float[Tensor, " heads"] | float | None = None,
    top: int | None = None,
    post: Callable[[Tensor], Tensor] | None = None,
    dropout_p: float = 0.0,
    need_association: bool = False,
) -> Associated:
    """Associate states with stored patterns, again and again, and read the values out.

        A = p(beta q k^T + mask);   then, while a head has updates left and its last one changed something:
        q = post(A k),  A = p(beta q k^T + mask);   result = dropout(A) v

    A state that the mask leaves nothing to associate with reads out 0.

    Shapes: q (B, H, L, D), k (B, H, S, D), v (B, H, S, P) -> result (B, H, L, P); a batch of 1 broadcasts.

    Args:
        q, k, v: states, stored patterns, values.
        beta: inverse temperature of each head.
        mask: added to the scaled scores, broadcasts to (B, H, L, S); -inf forbids.
        num_updates: how often A is computed at most, a number or one a head.
        tol: a head stops after an update that changed less, a number or one a head. None for no test, and no wait for
            the device.
        stop: what is compared with tol: "association", the largest Frobenius norm over the batch of the change of A, as
            the authors' code; "state", for each state its change relative to its length, and a state stops alone.
        association, alpha, top: the map p, see `associate` (`top` is its k).
        post: what is done to every new state before it is compared again.
        dropout_p: share of A that is dropped at the end.
        need_association: return A as well.

    Raises:
        ValueError: an unknown association or stop test, fewer than one update, or a tol of 0 or less.

    Source: Ramsauer et al., "Hopfield Networks is All You Need" (2021, arXiv 2008.02217).
    """
    check_choice("association", association, ASSOCIATIONS)
    check_choice("stop", stop, STOPS)
    counts = counts_per_head("num_updates", num_updates, q.shape[1])
    limits = None if tol is None else positive_per_head("tol", tol, q.shape[1])
    if association == "softmax":
        return general_association(
            q,
            k,
            v,
            beta,
            mask,
            num_updates=counts,
            tol=limits,
            stop=stop,
            post=post,
            dropout_p=dropout_p,
            need_association=need_association,
        )
    found = reference_association(
        q,
        k,
        v,
        beta,
        mask,
        num_updates=counts,
        tol=limits,
        stop=stop,
        association=association,
        alpha=alpha,
        top=top,
        post=post,
        dropout_p=dropout_p,
    )
    return found if need_association else Associated(found.result, None, found.counts)
