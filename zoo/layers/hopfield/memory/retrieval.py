"""Retrieval from an associative memory, as functions of the stored patterns."""

from collections.abc import Callable

from jaxtyping import Float, Shaped
from torch import Tensor

from zoo.eager import no_autocast
from zoo.layers.hopfield.memory.composed import Recall, composed_recall, needs_graph, working_dtype
from zoo.layers.hopfield.memory.separation import Separation
from zoo.layers.hopfield.memory.similarity import Comparison
from zoo.layers.hopfield.memory.streaming import streamed_recall
from zoo.layers.hopfield.options import check_tensors, positive_int, post_function


def recall(
    state: Float[Tensor, "*states dim"],
    stored: Shaped[Tensor, "patterns dim"],
    values: Shaped[Tensor, "patterns value_dim"] | None = None,
    *,
    beta: float | Tensor = 1.0,
    num_updates: int = 1,
    similarity: str = "dot",
    association: str = "softmax",
    alpha: float | None = None,
    k: int | None = None,
    degree: int | None = None,
    feature_map: Float[Tensor, "features dim"] | None = None,
    post: str | Callable[[Tensor], Tensor] | None = None,
    top: int | None = None,
) -> Recall:
    """Retrieve, and tell what was recalled: `retrieve` with the potential and the patterns of largest similarity.

    Args:
        state, stored, values, beta, num_updates, similarity, association, alpha, k, degree, feature_map, post: as
            `retrieve`.
        top: how many patterns of the last association to tell, with their weights.

    Returns:
        `Recall`: result (*states, value_dim), potential (*states), indices and weights (*states, top) or None.

    Raises:
        ValueError, TypeError: as `retrieve`; a top out of range.
    """
    comparison = Comparison(similarity, feature_map)
    separation = Separation(association, alpha, k, degree)
    check_store(state, stored, values, feature_map)
    check_beta(beta)
    positive_int("num_updates", num_updates)
    count = len(stored)
    check_top(top, count)
    if separation.k is not None and separation.k > count:
        raise ValueError(f"k of {association} must be from 1 to the {count} patterns, got {separation.k}")
    changed = post_function(post)
    states = state.reshape(-1, state.shape[-1]).to(working_dtype(state))
    with no_autocast(state):
        for _ in range(num_updates - 1):
            states = _once(states, stored, None, beta, comparison, separation, None).result
            states = states if changed is None else changed(states)
        found = _once(states, stored, values, beta, comparison, separation, top)
    result = found.result if changed is None or values is not None else changed(found.result)
    lead = state.shape[:-1]
    return Recall(
        result.reshape(*lead, result.shape[-1]).to(state.dtype),
        found.potential.reshape(lead),
        *(None if part is None else part.reshape(*lead, part.shape[-1]) for part in found[2:]),
    )


def _once(
    states: Tensor,
    stored: Tensor,
    values: Tensor | None,
    beta: float | Tensor,
    comparison: Comparison,
    separation: Separation,
    top: int | None,
) -> Recall:
    learned = beta if isinstance(beta, Tensor) else None
    if needs_graph(states, stored, values, learned, comparison.feature_map):
        patterns = stored.to(states)
        wanted = patterns if values is None else values.to(states)
        beta = beta if learned is None else learned.to(states)
        return composed_recall(states, patterns, wanted, beta, comparison, separation, top)
    return streamed_recall(states, stored, values, float(beta), comparison, separation, top)


def retrieve(
    state: Float[Tensor, "*states dim"],
    stored: Shaped[Tensor, "patterns dim"],
    values: Shaped[Tensor, "patterns value_dim"] | None = None,
    *,
    beta: float | Tensor = 1.0,
    num_updates: int = 1,
    similarity: str = "dot",
    association: str = "softmax",
    alpha: float | None = None,
    k: int | None = None,
    degree: int | None = None,
    feature_map: Float[Tensor, "features dim"] | None = None,
    post: str | Callable[[Tensor], Tensor] | None = None,
) -> Float[Tensor, "*states value_dim"]:
    """Complete noisy or partial patterns from the stored ones.

        state <- X^T p(beta s(X, state)), num_updates times; at the last, values in the place of X

    With dot product and softmax this is attention. Which beta is right depends on the patterns: 1/sqrt(dim), right for
    attention, averages them all. `beta_for` chooses one, `retrieval_report` tells what is wrong.

    Without gradients the store is read chunk by chunk: it may be of any dtype, on another device, or mapped from a file
    (`mapped_patterns`), and no matrix of states and patterns is made. With gradients parts larger than 2^24 entries
    are made anew for the backward pass.

    Shapes: (*, dim), (N, dim) -> (*, value_dim), or (*, dim) without values; in the dtype of the state. What is
    computed is float32, float64 if the state is, under autocast too.

    Args:
        state: what to start from.
        stored: patterns to recall.
        values: what to read out, instead of the patterns.
        beta: inverse temperature, a number above 0 or a tensor of one.
        num_updates: associations one after the other.
        similarity: "dot", "cosine", "neg_sq_l2" or "neg_l1".
        association: a map of `associate`, or "identity", "polynomial", "max".
        alpha, k: of the map, see `associate`.
        degree: of "polynomial", 10 if None.
        feature_map: both sides are compared after this linear map, see `learn_feature_map`.
        post: what is done to every new state: "l2", "layer_norm" or a callable. Not to values.

    Raises:
        ValueError: no stored patterns, sizes that do not fit, a beta, k, alpha or degree out of range, unknown names.
        TypeError: integer states.

    Source: Ramsauer et al., "Hopfield Networks is All You Need" (2021, arXiv 2008.02217); Millidge et al., "Universal
    Hopfield Networks" (2022, arXiv 2202.04557); Santos et al., "Hopfield-Fenchel-Young Networks" (2024, arXiv
    2411.08590).
    """
    return recall(
        state,
        stored,
        values,
        beta=beta,
        num_updates=num_updates,
        similarity=similarity,
        association=association,
        alpha=alpha,
        k=k,
        degree=degree,
        feature_map=feature_map,
        post=post,
    ).result


def association(
    state: Float[Tensor, "*states dim"],
    stored: Shaped[Tensor, "patterns dim"],
    *,
    beta: float | Tensor = 1.0,
    similarity: str = "dot",
    association: str = "softmax",
    alpha: float | None = None,
    k: int | None = None,
    degree: int | None = None,
    feature_map: Float[Tensor, "features dim"] | None = None,
) -> Float[Tensor, "*states patterns"]:
    """Weights p(beta s(X, state)) of all stored patterns: the whole matrix. For a large store see `recall(top=)`.

    Arguments and errors as `retrieve`.
    """
    comparison, separation = Comparison(similarity, feature_map), Separation(association, alpha, k, degree)
    check_store(state, stored, feature_map=feature_map)
    check_beta(beta)
    dtype = working_dtype(state)
    with no_autocast(state):
        states = state.reshape(-1, state.shape[-1]).to(dtype)
        comparison = comparison.around(stored, states)
        patterns = comparison.prepare(stored.to(states))
        scores = beta * comparison.scores(comparison.prepare(states), patterns)
    return separation.weights(scores).reshape(*state.shape[:-1], len(stored)).to(state.dtype)


def check_beta(beta: float | Tensor) -> None:
    """Refuse an inverse temperature of 0 or less, or none at all.

    Raises:
        TypeError: it is no number.
        ValueError: it is no finite number above 0, or a tensor of several.
    """
    if isinstance(beta, bool) or not isinstance(beta, int | float | Tensor):
        raise TypeError(f"beta must be a number greater than 0 or a tensor of one, got {beta!r}")
    if isinstance(beta, Tensor):
        if beta.numel() != 1:
            raise ValueError(f"beta must be one number, got a tensor of shape {tuple(beta.shape)}")
    elif not 0 < beta < float("inf"):
        raise ValueError(f"beta must be a finite number greater than 0, got {beta}")


def check_top(top: int | None, count: int) -> None:
    """Refuse to tell more patterns than are stored.

    Raises:
        ValueError, TypeError: it is no integer from 1 to the number of patterns.
    """
    if top is not None and positive_int("top", top) > count:
        raise ValueError(f"top must be at most the {count} stored patterns, got {top}")


def check_store(state: Tensor, stored: Tensor, values: Tensor | None = None, feature_map: Tensor | None = None) -> None:
    """Refuse states and stores that do not fit.

    Raises:
        ValueError: no patterns, another width, another number of values, a feature map for another width.
        TypeError: no tensors, states that are no floating-point numbers.
    """
    check_tensors(state=state, stored=stored, values=values, feature_map=feature_map)
    if not state.is_floating_point():
        raise TypeError(f"state must be of a floating dtype, got {state.dtype}")
    if stored.dim() != 2:
        raise ValueError(f"stored must be (patterns, dim), got {tuple(stored.shape)}")
    if not len(stored):
        raise ValueError("there is no stored pattern to recall: store at least one")
    if state.dim() < 1 or state.shape[-1] != stored.shape[1]:
        raise ValueError(f"states must be {stored.shape[1]} wide, as the stored patterns, got {tuple(state.shape)}")
    if values is not None and (values.dim() != 2 or len(values) != len(stored)):
        raise ValueError(f"values must be ({len(stored)}, value_dim), one a pattern, got {tuple(values.shape)}")
    if feature_map is not None and (feature_map.dim() != 2 or feature_map.shape[1] != stored.shape[1]):
        raise ValueError(f"feature_map must be (features, {stored.shape[1]}), got {tuple(feature_map.shape)}")
