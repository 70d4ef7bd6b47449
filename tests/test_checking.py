"""Annotations of functions inside functions are checked each time, though the check is built once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from jaxtyping import Float, TypeCheckError, jaxtyped
from torch import Tensor

from tests.checking import _built, checked


def _closure(annotation: Any, given: int = 0) -> Any:
    def inner(x, extra=given):
        return x if extra < 5 else None

    inner.__annotations__ = {"x": annotation, "return": annotation}
    return jaxtyped(inner, typechecker=checked)


def test_every_closure_is_checked():
    vector, matrix = Float[Tensor, "n"], Float[Tensor, "n m"]
    known = len(_built)
    for _ in range(3):
        for annotation, right, wrong in ((vector, 1, 2), (matrix, 2, 1)):
            inner = _closure(annotation)
            assert inner(torch.ones([1] * right)).ndim == right
            with pytest.raises(TypeCheckError, match="checking the parameters"):
                inner(torch.ones([1] * wrong))
            with pytest.raises(TypeCheckError, match="checking the return value"):
                _closure(annotation, 5)(torch.ones([1] * right))
    assert len(_built) == known + 4  # parameters, and parameters with what is returned, of two signatures
