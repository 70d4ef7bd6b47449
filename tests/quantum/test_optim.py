"""The learning rule of Farhi and Neven, and the natural gradient."""

import copy
import io
import itertools

import pytest
import torch
from torch import nn

from tests.layers.answers import answers
from zoo import quantum as zq


def test_a_step_is_the_loss_over_the_squared_gradient():
    qnn = zq.QNN(3, dtype=torch.float64, init=(-1.0, 1.0))
    bits, label = torch.tensor([[0, 1, 1]]), torch.tensor([-1])
    before = qnn.theta.detach().clone()
    optimizer = zq.FarhiNevenSGD(qnn.parameters(), rate=0.1)

    def closure():
        optimizer.zero_grad()
        loss = qnn.loss(qnn(bits), label)
        loss.backward()
        return loss

    loss = optimizer.step(closure).detach()
    gradient = qnn.theta.grad
    torch.testing.assert_close(qnn.theta.detach(), before - 0.1 * loss / gradient.square().sum() * gradient)
    # To first order a tenth of the loss is gone.
    after = qnn.loss(qnn(bits), label).detach()
    assert float(after) == pytest.approx(0.9 * float(loss), rel=0.2)


def test_a_gradient_of_nothing_changes_nothing():
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = zq.FarhiNevenSGD([weight])

    def closure():
        optimizer.zero_grad()
        loss = (0 * weight).sum() + 1
        loss.backward()
        return loss

    assert optimizer.step(closure) == 1
    assert weight.tolist() == [1, 1, 1]


def test_it_learns_a_majority_one_sample_at_a_time():
    torch.manual_seed(0)
    bits = torch.tensor(list(itertools.product((0, 1), repeat=5)))
    labels = (1 - 2 * bits).sum(1).sign()
    qnn = zq.QNN(5, ["ZX"])
    optimizer = zq.FarhiNevenSGD(qnn.parameters(), rate=0.05)
    for i in torch.randint(0, 32, (400,)).tolist():

        def closure(i=i):
            optimizer.zero_grad()
            loss = qnn.loss(qnn(bits[i : i + 1]), labels[i : i + 1])
            loss.backward()
            return loss

        optimizer.step(closure)
    assert qnn.accuracy(qnn(bits), labels) == 1


ISING = "Z0 Z1 + Z1 Z2 + Z2 Z3 + 0.5 X0 + 0.5 X1 + 0.5 X2 + 0.5 X3"


def chain_layer(seed=0, **options):
    torch.manual_seed(seed)
    options = {"n_layers": 2, "ansatz": "hardware_efficient", "init": "uniform", "dtype": torch.float64, **options}
    return zq.QuantumLayer(4, observables=ISING, **options)


def descend(layer, optimizer, x):
    optimizer.zero_grad()
    value = layer(x).sum()
    value.backward()
    optimizer.step()
    return float(value.detach())


@pytest.mark.parametrize("blocks", ["layer", "full"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_natural_step_solves_with_the_metric_of_the_last_batch(blocks, dtype):
    layer = chain_layer(dtype=dtype)
    optimizer = zq.QuantumNaturalGradient(layer, lr=0.1, damping=0.01, blocks=blocks)
    x, before = torch.randn(3, 4, dtype=dtype), layer.weights.detach().clone()
    metric = layer.metric_tensor(x).double()
    if blocks == "layer":
        metric = torch.block_diag(*layer.metric_tensor(x, layers=2).double())
    layer(torch.randn(5, 4, dtype=dtype))
    layer(x).sum().backward()
    with torch.no_grad():
        layer(torch.randn(5, 4, dtype=dtype))  # an evaluation in between does not count
    optimizer.step()
    step = (before - layer.weights.detach()).double().flatten() / 0.1
    left = (metric + 0.01 * torch.eye(len(metric))) @ step
    torch.testing.assert_close(left, layer.weights.grad.double().flatten(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("blocks", ["layer", "full"])
@pytest.mark.parametrize("seed", range(3))
def test_a_ground_state_in_fewer_steps_than_plain_descent(seed, blocks):
    x = torch.zeros(1, 4, dtype=torch.float64)
    natural, plain = chain_layer(seed), chain_layer(seed)
    optimizer = zq.QuantumNaturalGradient(natural, lr=0.05, blocks=blocks)
    found = [descend(natural, optimizer, x) for _ in range(60)]
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05)
    other = [descend(plain, optimizer, x) for _ in range(60)]
    goal = -3.3
    steps = next(i for i, value in enumerate(found) if value < goal)
    assert steps < 40
    assert min(other[: 2 * steps]) > goal


def test_other_parameters_take_plain_steps():
    torch.manual_seed(0)
    layer = zq.QuantumLayer(3, n_layers=2, reupload=True, out_features=2)
    model = nn.Sequential(nn.Linear(5, 3), layer)
    twin = copy.deepcopy(model)
    natural, plain = zq.QuantumNaturalGradient(model, lr=0.3), torch.optim.SGD(twin.parameters(), lr=0.3)
    x = torch.randn(4, 5)
    for net, optimizer in ((model, natural), (twin, plain)):
        net(x).square().sum().backward()
        optimizer.step()
    moved = dict(twin.named_parameters())
    for name, parameter in model.named_parameters():
        same = torch.equal(parameter, moved[name])
        assert same == (name != "1.weights"), name


def test_weights_without_a_gradient_stay():
    layer = chain_layer(out_features=1)
    layer.weights.requires_grad_(False)
    before = layer.weights.clone()
    optimizer = zq.QuantumNaturalGradient(layer)
    descend(layer, optimizer, torch.randn(2, 4, dtype=torch.float64))
    assert torch.equal(layer.weights, before)


def test_a_closure_and_a_circuit_of_ones_own():
    circuit = zq.Circuit(1).ry(zq.feature(0), 0).ry("a", 0)
    layer = zq.QuantumLayer(circuit=circuit, init="uniform", dtype=torch.float64)
    optimizer = zq.QuantumNaturalGradient(layer, lr=0.1, damping=1e-9)
    before, x = layer.weights.detach().clone(), torch.zeros(1, 1, dtype=torch.float64)

    def closure():
        optimizer.zero_grad()
        value = layer(x).sum()
        value.backward()
        return value

    value = optimizer.step(closure)
    torch.testing.assert_close(value.detach(), before.cos()[0])
    torch.testing.assert_close(layer.weights.detach(), before + 0.1 * 4 * before.sin())


def test_its_state_is_its_numbers():
    x = torch.randn(2, 4, dtype=torch.float64)
    one, two = chain_layer(), chain_layer()
    first = zq.QuantumNaturalGradient(one, lr=0.2, damping=0.1, blocks="full")
    kept = io.BytesIO()
    torch.save(first.state_dict(), kept)
    kept.seek(0)
    second = zq.QuantumNaturalGradient(two)
    second.load_state_dict(torch.load(kept, weights_only=True))
    for _ in range(2):
        descend(one, first, x)
        descend(two, second, x)
    assert torch.equal(one.weights, two.weights)


def test_the_layer_can_still_be_copied_and_saved():
    layer, x = chain_layer(), torch.randn(2, 4, dtype=torch.float64)
    descend(layer, zq.QuantumNaturalGradient(layer), x)
    kept = io.BytesIO()
    torch.save(layer, kept)
    kept.seek(0)
    for other in (copy.deepcopy(layer), torch.load(kept, weights_only=False)):
        assert torch.equal(other(x), layer(x))


#: expression -> parts of the message.
CASES = {
    "zq.QuantumNaturalGradient(layer, lr=0)": ["ValueError", "lr must be above 0", "0"],
    "zq.QuantumNaturalGradient(layer, damping=0.0)": ["ValueError", "damping must be above 0", "0.0"],
    "zq.QuantumNaturalGradient(layer, blocks='layers')": ["ValueError", "'layer', 'full'", "did you mean 'layer'"],
    "zq.QuantumNaturalGradient(nn.Linear(2, 2))": ["ValueError", "Linear has no QuantumLayer with weights"],
    "zq.QuantumNaturalGradient(zq.QuantumLayer(2, shots=100))": ["ValueError", "pure states", "shots=100"],
    "zq.QuantumNaturalGradient(zq.QuantumLayer(2, noise=noise))": ["ValueError", "the layer has noise"],
    "zq.QuantumNaturalGradient(zq.QuantumLayer(circuit=kept))": ["ValueError", "the layer has post-selections"],
    "uncalled.step()": ["RuntimeError", "call the layer, with gradients, before the step"],
}
PREPARATION = """
from zoo import quantum as zq
layer = zq.QuantumLayer(2)
noise = zq.NoiseModel(readout=zq.ReadoutError(0.1, 0.1))
kept = zq.Circuit(2).rx(zq.feature(0), 0).rx("a", 1).cx(0, 1).post_select(1)
layer(torch.ones(1, 2)).sum().backward()
uncalled = zq.QuantumNaturalGradient(layer)
"""


@pytest.fixture(scope="module")
def told():
    return answers(CASES, PREPARATION)


@pytest.mark.parametrize("case", CASES)
def test_refusal(case, told):
    for part in CASES[case]:
        assert part in told[case]
