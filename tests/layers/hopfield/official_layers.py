"""Our layers made from the authors' options and state dicts, and compared with the slow ones in float64."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.layers.hopfield.official_cases import Case, generator, inputs_of
from tests.layers.hopfield.slow import official_state, slow
from zoo.layers.hopfield import Hopfield, HopfieldLayer, HopfieldPooling
from zoo.weights.converters.hopfield import convert_official, from_official_options

_CLASSES = {"Hopfield": Hopfield, "HopfieldPooling": HopfieldPooling, "HopfieldLayer": HopfieldLayer}
#: Options that the authors do not have.
_OURS = ("k", "post")
_INPUTS = ("x", "stored", "state", "projection")


def drawn(case: Case, seed: int = 0) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Parameters in the authors' layout, and inputs."""
    draw = generator(seed)

    def parameter(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64) * (0.4 if len(shape) > 1 else 0.7)

    state = official_state(case.cls, case.options, parameter)
    return state, inputs_of(case, draw)


def ours(case: Case) -> dict[str, Any]:
    """Keywords of our class."""
    theirs = {name: value for name, value in case.options.items() if name not in _OURS}
    own = {name: case.options[name] for name in _OURS if name in case.options}
    return {**from_official_options(case.cls, **theirs), **own}


def built(case: Case, state: dict[str, Tensor]) -> Any:
    """Our layer with the authors' parameters."""
    module = _CLASSES[case.cls](**ours(case), dtype=torch.float64)
    module.load_state_dict(convert_official(state, case.options)[0])
    return module.eval()


def called(case: Case, inputs: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """The first argument of our call and the others, from inputs by the authors' names."""
    others = {name: value for name, value in inputs.items() if name.endswith("mask")}
    names = {"state": "state", "projection": "values"}
    others |= {own: inputs[name] for name, own in names.items() if name in inputs}
    return inputs["stored" if case.cls == "Hopfield" else "x"], others


def check(case: Case) -> None:
    """Output, association, evaluations and all gradients are those of the slow layer."""
    state, inputs = drawn(case)
    module = built(case, state)
    leaves = {key: value.requires_grad_() for key, value in state.items()}
    given = {f"input {key}": value.requires_grad_() for key, value in inputs.items() if key in _INPUTS}
    wanted = slow(case.cls, case.options, state, inputs)
    first, others = called(case, inputs)
    close = {"rtol": 1e-9, "atol": 1e-10}
    with torch.no_grad():
        for _ in range(2):  # what is kept between calls
            torch.testing.assert_close(module(first, **others), wanted.output, **close)
    output = module(first, **others)
    torch.testing.assert_close(output, wanted.output, **close)
    found = module.recall(first, **others)
    torch.testing.assert_close(found.output, wanted.output, **close)
    torch.testing.assert_close(found.association, wanted.association, **close)
    assert list(found.counts) == wanted.counts

    cotangent = torch.randn(output.shape, generator=generator(1), dtype=output.dtype)
    own = {name: parameter.requires_grad_() for name, parameter in module.named_parameters()}
    expected = _gradients(wanted.output, {**leaves, **given}, cotangent)
    got = _gradients(module(first, **others), {**own, **given}, cotangent)
    expected |= convert_official({key: expected.pop(key) for key in state}, case.options)[0]
    assert got.keys() == expected.keys()
    for key, grad in got.items():
        torch.testing.assert_close(grad, expected[key], rtol=1e-7, atol=1e-8, msg=lambda t, key=key: f"{key}: {t}")


def _gradients(output: Tensor, leaves: dict[str, Tensor], cotangent: Tensor) -> dict[str, Tensor]:
    grads = torch.autograd.grad(
        (output * cotangent).sum(), list(leaves.values()), allow_unused=True, materialize_grads=True
    )
    return dict(zip(leaves, grads, strict=True))
