"""Banks of vectors, owned or shared: the features and the prototypes of a layer."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from zoo.layers.tversky.options import check_choice

INITS = ("scaled_uniform", "uniform", "symmetric_uniform", "normal", "orthogonal")


class Bank(nn.Module):
    """`num` learned vectors, one a row of `weight`.

    Args:
        num: rows.
        dim: width of a row.
        init: see `draw`.
    """

    def __init__(
        self,
        num: int,
        dim: int,
        *,
        init: str = "scaled_uniform",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.init = init
        self.weight = nn.Parameter(torch.empty(num, dim, device=device, dtype=dtype))
        self.reset_parameters()

    @property
    def shape(self) -> tuple[int, int]:
        return self.weight.shape[0], self.weight.shape[1]

    def reset_parameters(self) -> None:
        draw(self.weight, self.init)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}"


class SharedBank:
    """A matrix that belongs to another module, or a parameter that belongs to nobody here, read where it is.

    It is no module: its matrix is among neither the parameters nor the state dict of the layer that reads it.

    Args:
        owner: a module whose `weight` is read at every call, or a parameter.
    """

    def __init__(self, owner: nn.Module | nn.Parameter) -> None:
        self.owner = owner

    @property
    def weight(self) -> Tensor:
        weight = self.owner if isinstance(self.owner, Tensor) else self.owner.weight
        assert isinstance(weight, Tensor)
        return weight

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.weight.shape)

    def __repr__(self) -> str:
        what = "a parameter" if isinstance(self.owner, Tensor) else type(self.owner).__name__
        return f"SharedBank({what} {self.shape})"


def as_bank(argument: str, given: Any, shape: tuple[int | None, int]) -> Any:
    """The bank that a layer reads when it is given one.

    Args:
        argument: "feature_bank" or "prototypes", for messages and to find the bank of another layer.
        given: a parameter, a module with a matrix `weight` (`nn.Embedding`, `nn.Linear`), another layer of this
            family, or a module that makes its bank, such as `DataDomainBank`, which becomes a part of the layer.
        shape: (rows, width) that it must have; None for any number of rows.

    Raises:
        TypeError: something else, or not of a floating type.
        ValueError: another shape.
    """
    bank: Any
    if isinstance(given, SharedBank) or getattr(given, "makes_bank", False):
        bank = given
    elif isinstance(given, nn.Module) and hasattr(given, argument):
        held = getattr(given, argument)
        bank = held if isinstance(held, SharedBank) else SharedBank(held)
    elif isinstance(given, nn.Parameter) or (
        isinstance(given, nn.Module) and isinstance(getattr(given, "weight", None), Tensor)
    ):
        bank = SharedBank(given)
    else:
        raise TypeError(
            f"{argument} must be an nn.Parameter, an nn.Embedding (or another module with a matrix `weight`) or a "
            f"Tversky layer to share with, got {type(given).__name__}"
        )
    rows, width = shape
    if len(bank.shape) != 2 or bank.shape[1] != width or rows not in (None, bank.shape[0]):
        wanted = f"({'any' if rows is None else rows}, {width})"
        raise ValueError(f"{argument} must be {wanted}, the one given is {tuple(bank.shape)}")
    if isinstance(bank, SharedBank) and not bank.weight.is_floating_point():
        raise TypeError(f"{argument} must be of a floating type, got {bank.weight.dtype}")
    return bank


@torch.no_grad()
def draw(weight: Tensor, init: str) -> None:
    """Fill a bank with initial values.

    Args:
        weight: (rows, d).
        init: "scaled_uniform", U[-sqrt(3 / d), sqrt(3 / d)): rows of length about 1; "uniform", U[0, 1), as the
            authors' library, whose outputs grow with d squared; "symmetric_uniform", U[-1, 1); "normal", N(0, 1);
            "orthogonal".

    Raises:
        ValueError: another name.
    """
    check_choice("init", init, INITS)
    if weight.is_meta:
        return
    if init == "orthogonal":
        nn.init.orthogonal_(weight)
    elif init == "normal":
        nn.init.normal_(weight)
    elif init == "uniform":
        nn.init.uniform_(weight)
    else:
        bound = 1.0 if init == "symmetric_uniform" else math.sqrt(3 / weight.shape[1])
        nn.init.uniform_(weight, -bound, bound)
