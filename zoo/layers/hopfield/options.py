"""What the options of a Hopfield layer may be."""

import math
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.naming import did_you_mean

STOPS = ("association", "state")
#: What a sample without any pattern to associate with gives.
EMPTY = ("zero", "raise")
_NORM_KEYS = ("affine", "eps")


def check_choice(argument: str, value: str, allowed: Sequence[str]) -> None:
    """Refuse an unknown name, with the nearest one.

    Raises:
        ValueError: the value is not among those allowed.
    """
    if value not in allowed:
        choices = ", ".join(map(repr, allowed))
        raise ValueError(f"{argument} must be one of {choices}, got {value!r}{did_you_mean(str(value), allowed)}")


def positive_int(argument: str, value: int) -> int:
    """The value, if it is an integer of at least 1.

    Raises:
        TypeError, ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{argument} must be an integer of at least 1, got {value!r}")
    if value < 1:
        raise ValueError(f"{argument} must be an integer of at least 1, got {value}")
    return value


def check_tensors(**given: Any) -> None:
    """Refuse what is neither a tensor nor None, such as a NumPy array.

    Raises:
        TypeError: with the name and the type.
    """
    for name, value in given.items():
        if value is not None and not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(value).__name__}; torch.as_tensor makes one of it")


def per_head(argument: str, value: Any, num_heads: int) -> tuple[Any, ...]:
    """One finite number a head, from one for all or one each: a number, a sequence or a tensor.

    Raises:
        ValueError: another count, or a number that is not finite.
        TypeError: no numbers.
    """
    values = value.tolist() if isinstance(value, Tensor) else value
    numbers = tuple(values) if isinstance(values, Sequence) else (values,) * num_heads
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
        raise TypeError(f"{argument} must be a number or one for each of {num_heads} heads, got {value!r}")
    if len(numbers) != num_heads:
        raise ValueError(f"{argument} must be one number or one for each of {num_heads} heads, got {len(numbers)}")
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError(f"{argument} must be finite, got {value}")
    return numbers


def positive_per_head(argument: str, value: Any, num_heads: int) -> tuple[float, ...]:
    """As `per_head`, all above 0.

    Raises:
        ValueError, TypeError: as `per_head`; or a number of 0 or less.
    """
    numbers = tuple(map(float, per_head(argument, value, num_heads)))
    if min(numbers) <= 0:
        raise ValueError(f"{argument} must be greater than 0, got {value}")
    return numbers


def counts_per_head(argument: str, value: Any, num_heads: int) -> tuple[int, ...]:
    """As `per_head`, all integers of at least 1.

    Raises:
        ValueError, TypeError: as `per_head` and `positive_int`.
    """
    return tuple(positive_int(argument, number) for number in per_head(argument, value, num_heads))


def share(argument: str, value: float) -> float:
    """A share from 0 to less than 1.

    Raises:
        TypeError, ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{argument} must be a number from 0 to less than 1, got {value!r}")
    if not 0 <= value < 1:
        raise ValueError(f"{argument} must be at least 0 and less than 1, got {value}")
    return float(value)


def norm_options(argument: str, value: bool | Mapping[str, Any], *, affine: bool) -> dict[str, Any] | None:
    """Keywords of a layer norm from True, False or {"affine": ..., "eps": ...}; None for False.

    Args:
        argument: for the messages.
        value: the option.
        affine: whether the norm has scale and shift where the option does not say.

    Raises:
        ValueError, TypeError: unknown keys, an epsilon of 0 or less, something else.
    """
    if isinstance(value, bool):
        return {"elementwise_affine": affine, "eps": 1e-5} if value else None
    if not isinstance(value, Mapping):
        raise TypeError(f'{argument} must be True, False or a mapping such as {{"affine": False}}, got {value!r}')
    for key in value:
        check_choice(f"a key of {argument}", key, _NORM_KEYS)
    eps = float(value.get("eps", 1e-5))
    if not eps > 0:
        raise ValueError(f"eps of {argument} must be greater than 0, got {eps}")
    return {"elementwise_affine": bool(value.get("affine", affine)), "eps": eps}


def activation_function(activation: str | Callable[[Tensor], Tensor] | None) -> Callable[[Tensor], Tensor] | None:
    """A function from a callable or from its name in torch or torch.nn.functional.

    Raises:
        ValueError: torch has no such function, with the nearest name.
    """
    if activation is None or callable(activation):
        return activation
    known = ("relu", "gelu", "tanh", "sigmoid", "elu", "selu", "silu", "softplus", "leaky_relu", "mish")
    for home in (torch, F):
        found = getattr(home, str(activation), None)
        if callable(found) and not isinstance(found, type):
            return found  # pyright: ignore[reportReturnType]
    raise ValueError(
        f"activation must be a callable or the name of a function of torch, got {activation!r}"
        f"{did_you_mean(str(activation), known)}"
    )


def post_function(post: str | Callable[[Tensor], Tensor] | None) -> Callable[[Tensor], Tensor] | None:
    """What is done to every new state: a function from a callable or from its name, "l2" or "layer_norm".

    Raises:
        ValueError: an unknown name, with the nearest one.
    """
    if post is None or callable(post):
        return post
    check_choice("post", post, tuple(_POSTS))
    return _POSTS[post]


def l2(states: Tensor) -> Tensor:
    """States of unit length."""
    return F.normalize(states, dim=-1)


def layer_norm(states: Tensor) -> Tensor:
    """States of mean 0 and variance 1."""
    return F.layer_norm(states, states.shape[-1:])


_POSTS = {"l2": l2, "layer_norm": layer_norm}


def check_keywords(owner: type, options: Mapping[str, Any], of: type) -> None:
    """Refuse options that a class which passes them on to another does not know, with the nearest name.

    Args:
        owner: the class.
        options: what it passes on.
        of: the class that takes them.

    Raises:
        TypeError: an unknown option.
    """
    known = {name for cls in (owner, of) for name in signature(cls).parameters} - {"options"}
    for name in options:
        if name not in known:
            raise TypeError(f"{owner.__name__} has no option {name!r}{did_you_mean(name, sorted(known))}")
