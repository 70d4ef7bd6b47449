"""The sum over branches equals independent simulators, and the state vector for any list of layers."""

import random
import time

import pytest
import torch

from tests.quantum.goldens import DTYPES, golden
from zoo import quantum as zq
from zoo.quantum.farhi_neven.branches import READOUT_STATES, find_branches, polar

CASES = ["fn_zx_xx_n6", "fn_mixed_n6", "fn_zx_xx_n10"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", ["branches", "statevector"])
@pytest.mark.parametrize("name", CASES)
def test_golden_predictions_losses_and_gradients(name, method, dtype):
    case = golden(name, dtype)
    qnn = zq.QNN(case.kwargs["n_data"], case.kwargs["layers"], method=method, dtype=dtype)
    qnn.theta.data.copy_(case["state.theta"])
    bits, labels = case["in.bits"].long(), case["in.labels"].long()
    y = qnn(bits)
    case.check(y, case["out.expval"], "expval")
    case.check(qnn.loss(y, labels, "none"), case["out.loss_per_sample"], "losses")
    loss = qnn.loss(y, labels)
    case.check(loss[None], case["out.loss_mean"], "loss")
    loss.backward()
    case.check(qnn.theta.grad, case["grad.theta"], "gradient")


@pytest.mark.parametrize("name", CASES)
def test_golden_states_of_the_circuit(name):
    case = golden(name)
    qnn = zq.QNN(case.kwargs["n_data"], case.kwargs["layers"], dtype=torch.float64)
    states = case.complex("out.final_state")
    for bits, state in zip(case["in.bits"].long().tolist(), states, strict=False):
        case.check(zq.state(qnn.circuit(bits), case["state.theta"].flatten()), state, "state")


@pytest.mark.parametrize("dtype", DTYPES)
def test_golden_of_thirty_data_qubits(dtype):
    case = golden("fn_wide_n30", dtype)
    qnn = zq.QNN(30, case.kwargs["layers"], dtype=dtype)
    qnn.theta.data.copy_(case["state.theta"])
    limit = case.meta["tolerance"]["complex64" if dtype == torch.float32 else "complex128"]
    torch.testing.assert_close(qnn(case["in.bits"].long()), case["out.expval"], atol=limit, rtol=limit)


@pytest.mark.parametrize("dtype", DTYPES)
def test_golden_of_the_tutorial(dtype):
    case = golden("tfq_xx_zz_n9", dtype)
    qnn = zq.QNN.tfq(9, dtype=dtype)
    qnn.theta.data.copy_(case["state.exponents"])
    y = qnn(case["in.bits"].long())
    case.check(y, case["out.expval"], "expval")
    loss = qnn.loss(y, case["in.labels"].long())
    case.check(loss[None], case["out.hinge_mean"], "hinge")
    loss.backward()
    case.check(qnn.theta.grad, case["grad.exponents"], "gradient")


def _pairs(count, most, dtype, seed):
    """Networks of random layers, by branches and by the state vector, with the same angles."""
    rng = random.Random(seed)
    while count:
        n, depth = rng.randint(1, most), rng.randint(1, 6)
        layers = [rng.choice("XYZ") + rng.choice("XYZ") for _ in range(depth)]
        options = {"readout_init": rng.choice(list(READOUT_STATES)), "observable": rng.choice("XYZ"), "dtype": dtype}
        try:
            fast = zq.QNN(n, layers, method="branches", init=(-1.5, 1.5), **options)
        except ValueError:  # layers that give every input the same prediction
            continue
        slow = zq.QNN(n, layers, method="statevector", **options)
        slow.load_state_dict(fast.state_dict())
        count -= 1
        yield fast, slow


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize(("count", "most"), [(25, 6), (2, 10)])
def test_branches_are_the_state_vector(count, most, dtype, limit):
    torch.manual_seed(0)
    for fast, slow in _pairs(count, most, dtype, seed=most):
        bits, weights = torch.randint(0, 2, (5, fast.n_data)), torch.randn(5, dtype=dtype)
        for qnn in (fast, slow):
            (qnn(bits) @ weights).backward()
        torch.testing.assert_close(fast(bits), slow(bits), atol=limit, rtol=0)
        torch.testing.assert_close(fast.theta.grad, slow.theta.grad, atol=10 * limit, rtol=0)


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_product_states_too(dtype, limit):
    torch.manual_seed(0)
    for fast, slow in _pairs(15, 5, dtype, seed=1):
        states = torch.randn(4, fast.n_data, 2, dtype=torch.promote_types(dtype, torch.complex64))
        states = states / states.norm(dim=2, keepdim=True)
        for qnn in (fast, slow):
            qnn.forward_product(states).sum().backward()
        torch.testing.assert_close(fast.forward_product(states), slow.forward_product(states), atol=limit, rtol=0)
        torch.testing.assert_close(fast.theta.grad, slow.theta.grad, atol=10 * limit, rtol=0)


def test_the_product_of_numbers_has_its_gradient_where_one_of_them_is_zero():
    numbers = torch.tensor([[0.3, 0.4], [0.0, 0.0], [-0.5, 0.1]], dtype=torch.float64, requires_grad=True)
    logs, phases = polar(*numbers.T)
    product = logs.sum().exp() * torch.stack([phases.sum().cos(), phases.sum().sin()])
    wanted = torch.view_as_real(torch.view_as_complex(numbers).prod())
    torch.testing.assert_close(product, wanted, atol=1e-25, rtol=0)
    for k in (0, 1):
        found = torch.autograd.grad(product[k], numbers, retain_graph=True)[0]
        torch.testing.assert_close(found, torch.autograd.grad(wanted[k], numbers, retain_graph=True)[0])


def test_angles_at_which_an_overlap_is_nearly_zero():
    fast = zq.QNN(3, ["XX", "ZX"], dtype=torch.float64)
    slow = zq.QNN(3, ["XX", "ZX"], method="statevector", dtype=torch.float64)
    quarter = torch.tensor([[torch.pi / 4, 0.3, torch.pi / 4], [0.2, 0.4, 0.0]], dtype=torch.float64)
    bits = torch.tensor([[0, 1, 1], [1, 0, 1]])
    # The overlaps below are what rounding leaves of 0, of two qubits and of one; then the gradient is not 0.
    for angles in (quarter, torch.cat([quarter[:1] * torch.tensor([1.0, 1.0, 0.5]), quarter[1:]])):
        grads = []
        for qnn in (fast, slow):
            qnn.theta.data.copy_(angles)
            y = qnn(bits)
            grads.append(torch.autograd.grad(y[0] + 2 * y[1], qnn.theta)[0])
        torch.testing.assert_close(fast(bits), slow(bits), atol=1e-12, rtol=0)
        torch.testing.assert_close(*grads, atol=1e-12, rtol=0)
    assert grads[0].abs().max() > 0.1


@pytest.mark.parametrize("layers", [["ZX", "XX"], ["ZX", "XZ", "YY"]])
def test_gradients_and_their_gradients(layers):
    qnn = zq.QNN(3, layers, dtype=torch.float64, init=(-1.0, 1.0))
    bits = torch.tensor([[0, 1, 1], [1, 1, 0]])

    def call(theta):
        return torch.func.functional_call(qnn, {"theta": theta}, (bits,))

    theta = qnn.theta.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(call, theta)
    assert torch.autograd.gradgradcheck(call, theta)


def test_branches_are_counted_and_those_that_vanish_dropped():
    assert len(find_branches(("ZX", "XX") * 3, "0", "Y").signs) == 2
    assert len(find_branches(("XX", "ZZ") * 3, "-", "X").signs) == 2**5  # the first run leaves |-> as it is
    assert len(find_branches(("ZX", "ZZ") * 4, "0", "Y").signs) == 2**8
    alternating = ["ZX", "XZ"] * 5
    assert zq.QNN(4, alternating).method == "statevector"
    with pytest.raises(ValueError, match=r"10 runs .* more than 256 branches; use method='statevector'"):
        zq.QNN(4, alternating, method="branches")


@pytest.mark.parametrize("n", range(1, 6))
def test_the_layers_that_are_refused_are_constant_whatever_the_angles(n):
    with pytest.raises(ValueError, match=r"same prediction for every input.*readout_init='-'"):
        zq.QNN(n, ["XX", "ZZ"])
    slow = zq.QNN(n, ["XX", "ZZ"], readout_init="-", observable="X", method="statevector", init=(-2.0, 2.0))
    slow.readout_init, slow.observable = "0", "Y"  # behind the back of the constructor
    bits = torch.randint(0, 2, (8, n))
    torch.testing.assert_close(slow(bits), torch.zeros(8), atol=1e-6, rtol=0)


def test_784_data_qubits_take_less_than_50_ms():
    qnn, bits = zq.QNN(784), torch.randint(0, 2, (256, 784))
    with torch.no_grad():
        qnn(bits)
        times = []
        for _ in range(5):
            start = time.process_time()
            qnn(bits)
            times.append(time.process_time() - start)
    assert min(times) < 0.05


@torch.no_grad()
def test_wide_angles_leave_nothing_of_a_wide_input():
    torch.manual_seed(0)
    bits = torch.randint(0, 2, (16, 64))
    assert zq.QNN(64, init=(-0.3, 0.3))(bits).abs().max() < 1e-3
    near = zq.QNN(64)
    assert near(bits).abs().max() > 1e-2
    assert near.phases_and_amplitude().amplitude > 0.9
