"""Probabilities, loss and gradients of the reference code of Harvey et al., by the layer and by the reference path."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.quantum.goldens import DTYPES, Golden, golden
from zoo.quantum.qtn import QTN, cups, stairs
from zoo.quantum.qtn.reference import reference_probabilities
from zoo.weights.converters.qtn import convert_official

CASES = (
    "qtn_uptn_a14_ps",
    "qtn_hptn_a14_ps",
    "qtn_hptn_a14_discard_q2",
    "qtn_uptn_iqp_ps_q2",
    "qtn_httn_a14_ps",
    "qtn_uctn_a14_ps",
    "qtn_hctn_a14_discard",
    "qtn_hctn_iqp_ps",
)
SENTENCES = golden("lambeq_sentences").kwargs["cases"]
_ANSATZ = {"A14": "qtn14", "IQP": "qtn_iqp"}


def network(case: Golden) -> QTN:
    """The network of a case with its angles."""
    k = case.kwargs
    net = QTN(
        k["vocab_size"],
        max_len=k["seq_len"],
        topology=k["topology"],
        sharing=k["sharing"],
        qubits=k["qubits_per_word"],
        ansatz=_ANSATZ[k["ansatz"]],
        n_layers=k["n_layers"],
        post_select=k["post_select"],
        pad="none",
        dtype=case.dtype,
    )
    state, _ = convert_official({name: case[f"state.{name}"] for name in _arrays(case)})
    net.load_state_dict(state)
    return net


def _arrays(case: Golden) -> list[str]:
    return [key.removeprefix("state.") for key in case.tensors if key.startswith("state.")]


def near(case: Golden, actual: Tensor, expected: Tensor) -> None:
    """Within the tolerance of the case, of the largest number where that is above 1."""
    limit = case.meta["tolerance"]["complex64" if case.dtype is torch.float32 else "complex128"]
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(actual, expected, rtol=0, atol=limit * scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_values_loss_and_gradients_are_those_of_the_reference_code(name: str, dtype: torch.dtype) -> None:
    case = golden(name, dtype)
    net = network(case)
    probabilities = net(case["in.tokens"])
    near(case, probabilities, case["out.probs"])
    loss = net.loss(probabilities, case["in.labels"], reduction="sum")
    near(case, loss, case["out.loss"].squeeze())
    loss.backward()
    expected, _ = convert_official({array: case[f"grad.{array}"] for array in _arrays(case)})
    for parameter, gradient in expected.items():
        near(case, net.get_parameter(parameter).grad, gradient)  # pyright: ignore - there is one


@pytest.mark.parametrize("name", CASES)
def test_the_plain_path_gives_them_too(name: str) -> None:
    case = golden(name)
    near(case, reference_probabilities(network(case), case["in.tokens"]), case["out.probs"])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SENTENCES)
def test_sentences_have_the_symbols_and_amplitudes_that_lambeq_gives(name: str, dtype: torch.dtype) -> None:
    case, facts = golden("lambeq_sentences", dtype), SENTENCES[name]
    ansatz, layers = facts["ansatz"].split()[:2]
    options = {"ansatz": ansatz.lower(), "n_layers": int(layers)}
    if "cups" in name:
        sentence = cups(facts["tokens"], **options)
    else:
        sentence = stairs(facts["tokens"], qubits=2 if "2 qubits" in facts["ansatz"] else 1, **options)
    assert list(sentence.symbols) == facts["symbols"]
    values = case[f"in.params.{name}"]
    near(case, torch.view_as_real(sentence.amplitudes(values)), case[f"out.amplitudes.{name}"])
    near(case, sentence.probabilities(values), case[f"out.probs.{name}"])
    two = torch.stack([values, values / 2])
    torch.testing.assert_close(sentence.amplitudes(two)[0], sentence.amplitudes(values))
