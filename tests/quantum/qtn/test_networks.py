"""Topologies, padding and long sequences, held to the plain path and to what each says of itself."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from zoo.quantum.qtn import QTN
from zoo.quantum.qtn.reference import reference_probabilities

TOPOLOGIES = ("ptn", "ttn", "ctn")


def drawn(vocab_size: int = 5, **options: object) -> QTN:
    """A network in double precision with angles from the whole circle."""
    torch.manual_seed(0)
    return QTN(vocab_size, **{"max_len": 6, "init_scale": 1.0, "dtype": torch.float64, **options})  # type: ignore[arg-type]


def sequences(lengths: tuple[int, ...], vocab_size: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens, 99 behind each sequence's end, and the lengths."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, vocab_size, (len(lengths), max(lengths)), generator=generator)
    for row, length in zip(tokens, lengths, strict=True):
        row[length:] = 99
    return tokens, torch.tensor(lengths)


@pytest.mark.parametrize(
    ("topology", "post_select", "sharing", "pad"),
    list(itertools.product(TOPOLOGIES, (True, False), ("uniform", "hierarchical"), ("identity", "token"))),
)
def test_sequences_of_several_lengths_are_answered_as_the_plain_path_does(
    topology: str, post_select: bool, sharing: str, pad: str
) -> None:
    net = drawn(topology=topology, post_select=post_select, sharing=sharing, pad=pad)
    tokens, lengths = sequences((2, 3, 5, 4) if post_select or topology != "ctn" else (2, 3, 4))
    answers = net(tokens, lengths)
    torch.testing.assert_close(answers, reference_probabilities(net, tokens, lengths), rtol=0, atol=1e-12)
    torch.testing.assert_close(answers.sum(1), torch.ones(len(lengths), dtype=torch.float64))
    behind = torch.arange(tokens.shape[1]) >= lengths[:, None]
    assert torch.equal(net(tokens, mask=behind), answers)
    for k, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(net(tokens[k : k + 1, :length])[0], answers[k], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("topology", "post_select"), list(itertools.product(TOPOLOGIES, (True, False))))
def test_three_classes_are_read_from_two_qubits_a_wire(topology: str, post_select: bool) -> None:
    net = drawn(num_classes=3, qubits=2, topology=topology, post_select=post_select)
    tokens, lengths = sequences((2, 3, 3))
    answers = net(tokens, lengths)
    assert answers.shape == (3, 3)
    torch.testing.assert_close(answers, reference_probabilities(net, tokens, lengths), rtol=0, atol=1e-12)


@pytest.mark.parametrize("ansatz", ["strongly_entangling", "sim15", "hardware_efficient:y"])
def test_any_ansatz_makes_words_and_boxes(ansatz: str) -> None:
    net = drawn(ansatz=ansatz, qubits=2, n_layers=2)
    tokens, lengths = sequences((4, 3))
    torch.testing.assert_close(net(tokens, lengths), reference_probabilities(net, tokens, lengths), rtol=0, atol=1e-12)


def test_padding_by_a_token_is_that_token_in_its_place() -> None:
    path = drawn(pad="token", pad_token=3)
    short = torch.tensor([[0, 1, 2]])
    torch.testing.assert_close(path(short), path(torch.tensor([[0, 1, 2, 3, 3, 3]])))
    tree = drawn(topology="ctn", pad="token", max_len=16)
    torch.testing.assert_close(tree(short), tree(torch.tensor([[0, 1, 2, 4]])))
    # Of three places the odd one lies on the right.
    torch.testing.assert_close(tree(torch.tensor([[0, 1, 2, 3, 1]])), tree(torch.tensor([[4, 0, 1, 2, 3, 1, 4, 4]])))


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_shorter_sequences_use_the_first_rules(topology: str) -> None:
    net = drawn(topology=topology, sharing="hierarchical", max_len=16)
    tokens = torch.tensor([[0, 1, 2, 3]])
    before = net(tokens)
    names = ["disentangler", "isometry"] if topology == "ctn" else ["rules"]
    used = 3 if topology == "ptn" else 2
    with torch.no_grad():
        for name in names:
            net.get_parameter(f"{name}.weight")[used:] += 0.3
    assert torch.equal(net(tokens), before)
    with torch.no_grad():
        net.get_parameter(f"{names[-1]}.weight")[used - 1] += 0.3
    assert not torch.allclose(net(tokens), before)


@pytest.mark.parametrize(
    ("topology", "post_select"), [("ctn", True), ("ctn", False), ("ptn", True), ("ptn", False), ("ttn", False)]
)
def test_gradients_are_those_of_finite_differences(topology: str, post_select: bool) -> None:
    net = drawn(topology=topology, post_select=post_select, sharing="hierarchical", max_len=4)
    tokens, lengths = sequences((4, 3))

    def probabilities(*angles: torch.Tensor) -> torch.Tensor:
        named = dict(zip(dict(net.named_parameters()), angles, strict=True))
        return torch.func.functional_call(net, named, (tokens, lengths))

    angles = tuple(parameter.detach().requires_grad_() for parameter in net.parameters())
    assert torch.autograd.gradcheck(probabilities, angles, fast_mode=True)
    assert torch.autograd.gradgradcheck(probabilities, angles, fast_mode=True, atol=1e-4)


def test_a_long_tree_is_the_chain_that_it_says_it_is() -> None:
    """Sixteen words need bonds of eight; all of the dense state, by the plain path in single matrices, takes 2**16."""
    net = drawn(topology="ctn", sharing="hierarchical", max_len=8)
    tokens, _ = sequences((8, 8))
    torch.testing.assert_close(net(tokens), reference_probabilities(net, tokens), rtol=0, atol=1e-12)
    longer = drawn(topology="ctn", sharing="hierarchical", max_len=64)
    words, _ = sequences((64, 64))
    # A product of unitaries and of isometries without discarding: the norm left is a probability.
    assert (longer.log_success(words) < 0).all()
    assert torch.isfinite(longer(words)).all()


@pytest.mark.parametrize(("post_select", "length"), [(True, 64), (False, 16)])
def test_narrower_bonds_give_near_answers_and_wide_ones_exact_ones(post_select: bool, length: int) -> None:
    options = {"topology": "ctn", "sharing": "hierarchical", "max_len": length, "post_select": post_select}
    tokens, lengths = sequences((length, length - 3, 5))
    exact = drawn(**options)(tokens, lengths)
    errors = [
        float((drawn(max_bond=k, **options)(tokens, lengths) - exact).detach().abs().max()) for k in (1, 2, 4, 16)
    ]
    assert errors[2] < min(errors[:2]) / 2
    assert errors[3] < 1e-12
    whole, enough = drawn(**options), drawn(max_bond=16, **options)
    for net in (whole, enough):
        net.loss(net(tokens, lengths), torch.tensor([0, 1, 0])).backward()
    torch.testing.assert_close(enough.words.weight.grad, whole.words.weight.grad, rtol=0, atol=1e-10)
    single = drawn(max_bond=4, **{**options, "dtype": torch.float32})
    single.load_state_dict(drawn(**options).state_dict())
    probabilities = single(tokens, lengths)
    single.loss(probabilities, torch.tensor([0, 1, 0])).backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in single.parameters() if p.grad is not None)
    torch.testing.assert_close(probabilities.double(), drawn(max_bond=4, **options)(tokens, lengths), rtol=0, atol=1e-3)


def test_long_sequences_stay_finite_in_single_precision_while_it_learns() -> None:
    torch.manual_seed(0)
    net = QTN(20, max_len=512, sharing="hierarchical", init_scale=1.0)
    optimiser = torch.optim.AdamW(net.parameters(), lr=0.01)
    tokens, labels = torch.randint(0, 20, (8, 512)), torch.arange(8) % 2
    first = last = math.nan
    for step in range(100):
        optimiser.zero_grad()
        loss = net.loss(net(tokens), labels)
        loss.backward()
        assert all(bool(torch.isfinite(p.grad).all()) for p in net.parameters() if p.grad is not None)
        optimiser.step()
        first, last = (float(loss.detach()) if step == 0 else first), float(loss.detach())
    assert math.isfinite(last)
    assert last < first
    # What the amplitudes would be without rescaling is far below the smallest number of single precision.
    assert float(net.log_success(tokens).detach().max()) < -2 * 104


def test_the_chance_of_success_is_that_of_all_post_selections() -> None:
    net = drawn(max_len=3)
    tokens = torch.tensor([[0, 1, 2]])
    tensors = net.tensors()
    state = tensors.words[0]
    for word in (1, 2):
        state = torch.einsum("olk,l,k->o", tensors.boxes[0], state, tensors.words[word])
    chance = (tensors.readout @ state).abs().square().sum()
    torch.testing.assert_close(net.log_success(tokens)[0], chance.log())
    assert torch.equal(drawn(post_select=False).log_success(tokens).round(decimals=9), torch.zeros(1).double())


def test_batches_of_any_size_and_what_stands_behind_the_end_is_of_no_account() -> None:
    net = drawn()
    assert net(torch.zeros(0, 4, dtype=torch.int64)).shape == (0, 2)
    tokens, lengths = sequences((2, 5))
    other = tokens.where(tokens < 99, -7)
    assert torch.equal(net(tokens, lengths), net(other, lengths))
