"""The loss, precisions, copies, compilation, and refusals of the layer."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Mapping

import pytest
import torch

from tests.layers.answers import answers
from zoo.errors import PostSelectionError
from zoo.quantum.qtn import QTN

TOKENS = torch.tensor([[0, 1, 2, 3], [3, 2, 1, 0]])


def small(**options: object) -> QTN:
    torch.manual_seed(0)
    return QTN(5, **{"max_len": 4, "init_scale": 1.0, **options})  # type: ignore[arg-type]


def test_the_loss_is_the_cross_entropy_of_its_logits() -> None:
    net = small()
    probabilities, labels = net(TOKENS), torch.tensor([1, 0])
    mean = net.loss(probabilities, labels)
    torch.testing.assert_close(2 * mean, net.loss(probabilities, labels, reduction="sum"))
    torch.testing.assert_close(mean, net.loss(probabilities, torch.tensor([[0.0, 1.0], [1.0, 0.0]])))
    torch.testing.assert_close(mean, torch.nn.functional.cross_entropy(net.as_logits(probabilities), labels))
    assert torch.equal(net.as_logits(probabilities).argmax(1), probabilities.argmax(1))


def test_half_precision_and_autocast_are_computed_in_single() -> None:
    net = small()
    exact = net(TOKENS)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net(TOKENS), exact)
    half = copy.deepcopy(net).bfloat16()(TOKENS)
    assert half.dtype is torch.bfloat16
    torch.testing.assert_close(half.float(), exact, rtol=0, atol=0.1)


def test_copies_answer_alike() -> None:
    net = small(topology="ctn", sharing="hierarchical")
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(other(TOKENS), net(TOKENS))
    empty = small(device="meta", topology="ctn", sharing="hierarchical").to_empty(device="cpu")
    empty.load_state_dict(net.state_dict())
    assert torch.equal(empty(TOKENS), net(TOKENS))


def test_angles_begin_between_0_and_the_scale() -> None:
    angles = torch.cat([p.detach().flatten() for p in QTN(200, max_len=100, sharing="hierarchical").parameters()])
    assert 0 <= float(angles.min()) < 1e-4
    assert 0.0099 < float(angles.max()) <= 0.01


def test_it_compiles_and_exports_in_one_graph() -> None:
    """In a process of its own, where annotations are not checked."""
    script = """
import torch
from zoo.quantum import QTN
tokens, lengths = torch.tensor([[0, 1, 2, 3], [3, 2, 1, 0]]), torch.tensor([4, 3])
for topology in ("ptn", "ttn", "ctn"):
    torch.manual_seed(0)
    net = QTN(5, max_len=4, topology=topology, sharing="hierarchical", init_scale=1.0)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(tokens, lengths), net(tokens, lengths))
    program = torch.export.export(net, (tokens,))
    torch.testing.assert_close(program.module()(tokens), net(tokens))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_len": 1}, ["max_len", "from 2", "got 1"]),
        ({"qubits": 0}, ["qubits", "from 1", "got 0"]),
        ({"n_layers": True}, ["n_layers", "True"]),
        ({"num_classes": 1}, ["num_classes", "from 2", "got 1"]),
        ({"num_classes": 3}, ["3 classes need 2 qubits", "qubits="]),
        ({"topology": "pnt"}, ["topology", "'ptn' (a path), 'ttn'", "did you mean 'ptn'"]),
        ({"sharing": "hierarchic"}, ["did you mean 'hierarchical'"]),
        ({"pad": "zero"}, ["pad must be one of 'identity', 'token', 'none', got 'zero'"]),
        ({"max_bond": 0}, ["max_bond", "from 1", "got 0"]),
        ({"pad_token": 5}, ["pad_token", "0 to 4", "got 5"]),
        ({"ansatz": "qtn15"}, ["unknown ansatz 'qtn15'", "qtn14"]),
    ],
)
def test_the_constructor_refuses(options: dict[str, object], words: list[str]) -> None:
    with pytest.raises(ValueError, match=r".+") as caught:
        QTN(5, **{"max_len": 4, **options})  # type: ignore[arg-type]
    assert all(word in str(caught.value) for word in words), str(caught.value)


def _refused(options: dict[str, object], arguments: tuple[object, ...], named: Mapping[str, object]) -> str:
    with pytest.raises(ValueError, match=r".+") as caught:
        small(**options)(*arguments, **named)
    return str(caught.value)


def test_the_call_refuses_with_place_and_limit() -> None:
    ids = torch.tensor([[0, 1, 2, 3], [3, 5, 1, 0]])
    assert "token 5 at place 1 of sample 1" in _refused({}, (ids,), {})
    assert "0 to 4" in _refused({}, (ids - 1,), {})
    assert "at least two words, got 1" in _refused({}, (TOKENS[:, :1],), {})
    assert "5 words are more than max_len=4" in _refused({"sharing": "hierarchical"}, (torch.zeros(1, 5).long(),), {})
    lengths = torch.tensor([1, 4])
    assert "sample 0 has 1 words" in _refused({}, (TOKENS, lengths), {})
    assert "sample 1 has 6 words" in _refused({}, (TOKENS, lengths + 2), {})
    assert "all of one length" in _refused({"pad": "none"}, (TOKENS, torch.tensor([4, 3])), {})
    assert "a power of two" in _refused({"pad": "none", "topology": "ttn"}, (TOKENS[:, :3],), {})
    both = {"lengths": torch.tensor([4, 4]), "mask": torch.zeros(2, 4, dtype=torch.bool)}
    assert "not both" in _refused({}, (TOKENS,), both)
    first = torch.tensor([[True, False, False, False], [False, False, False, False]])
    assert "sample 0: padding lies behind the words" in _refused({}, (TOKENS,), {"mask": first})


@pytest.mark.parametrize(("dtype", "least"), [(torch.float32, "9e-13"), (torch.float64, "3e-30")])
def test_what_is_rounding_in_the_precision_at_hand_is_no_post_selection(dtype: torch.dtype, least: str) -> None:
    def chance(off: float, precision: torch.dtype) -> float:
        net = QTN(2, max_len=2, ansatz="qtn9", dtype=precision)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.zero_()
            net.words.weight[1] = torch.tensor([0.25, -0.25 + off, 0.0])
        return float(net.log_success(torch.tensor([[0, 1]])).exp().detach())

    with pytest.raises(PostSelectionError, match=f"below {least}, and so rounding"):
        chance(0.0, dtype)
    rare = chance(2.0**-12, torch.float64)  # an angle that both precisions hold
    assert 1e-7 < rare < 1e-6
    assert chance(2.0**-12, dtype) == pytest.approx(rare, rel=1e-3)


@pytest.mark.parametrize("topology", ["ptn", "ttn", "ctn"])
def test_a_sequence_that_is_never_post_selected_is_named(topology: str) -> None:
    """The box is Hadamards and a CZ: of a right word (|0> - |1>) / sqrt(2) its lower qubit is in 1, always."""
    net = QTN(2, max_len=4, topology=topology, ansatz="qtn9", dtype=torch.float64)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net.words.weight[1] = torch.tensor([0.25, -0.25, 0.0], dtype=torch.float64)
    fine, never = [0, 0], [0, 1]
    assert torch.isfinite(net(torch.tensor([fine]))).all()
    with pytest.raises(PostSelectionError, match=r"sample 1 is never post-selected.*below 3e-30, and so rounding"):
        net(torch.tensor([fine, never]))
    with pytest.raises(PostSelectionError, match="sample 0"):
        net(torch.tensor([[0, 1, 0, 0]] if topology != "ctn" else [never]))


def test_bad_targets_are_named() -> None:
    net = small()
    p = net(TOKENS)
    for target, said in (
        (torch.tensor([0, 2]), "class 2 of sample 1 is none of 0 to 1"),
        (torch.tensor([-1, 0]), "class -1 of sample 0"),
        (torch.tensor([0.0, 1.0]), r"whole numbers, got torch.float32; target.long\(\)"),
        (torch.tensor([[0], [1]]), r"probabilities \(2, 2\) is \(2,\) class numbers.*got \(2, 1\)"),
        (torch.tensor([0]), r"got \(1,\)"),
    ):
        with pytest.raises(ValueError, match=said):
            net.loss(p, target)
    assert torch.isnan(net.loss(p[:0], torch.zeros(0, dtype=torch.long)))  # as cross_entropy's mean


def test_options_and_devices_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="init_scale must be a number from 0, got -1"):
        QTN(5, max_len=4, init_scale=-1.0)
    with pytest.raises(ValueError, match="tokens are on meta, the network is on cpu"):
        small()(TOKENS.to("meta"))


def test_what_annotations_forbid_is_refused_without_their_checks() -> None:
    cases = {
        "net([[0, 1]])": "TypeError: tokens must be a tensor (batch, length), got list; torch.as_tensor",
        "net(numpy.zeros((1, 2), int))": "TypeError: tokens must be a tensor (batch, length), got ndarray",
        "QTN(20**10, max_len=4)": "vocab_size=10,240,000,000,000 words of 3 angles are more than fit",
        "QTN(20**20, max_len=4, device='meta')": "vocab_size=104,857,600,000,000,000,000,000,000 words",
        "QTN(5, max_len=4, topology='path')": "one of 'ptn' (a path), 'ttn' (a balanced tree), 'ctn' (a convolut",
        "QTN(5, max_len=4, pad='tokn')": "one of 'identity', 'token', 'none', got 'tokn'; did you mean 'token'?",
        "QTN(5, max_len=4, pad=None)": "one of 'identity', 'token', 'none', got None; did you mean 'none'?",
        "QTN(5, max_len=4, post_select=None)": "ValueError: post_select must be True or False, got None",
    }
    preparation = "import numpy\nfrom zoo.quantum import QTN\nnet = QTN(5, max_len=4)"
    for case, answer in answers(cases, preparation).items():
        assert cases[case] in answer
