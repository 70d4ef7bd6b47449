"""A network with one pair of branches is a cosine of a linear form: n phases and one amplitude."""

import pytest
import torch

from zoo import quantum as zq


def cosine(form, bits):
    return form.constant + form.amplitude * torch.cos((1 - 2 * bits.double()) @ form.phases + form.shift)


@pytest.mark.parametrize(
    "qnn",
    [
        zq.QNN(7, init=(-1.0, 1.0), dtype=torch.float64),
        zq.QNN(7, ["YX", "ZX", "XX"], init=(-1.0, 1.0), dtype=torch.float64),
        zq.QNN(7, ["ZZ", "XZ"], readout_init="+", observable="X", init=(-1.0, 1.0), dtype=torch.float64),
        zq.QNN(7, ["ZZ", "XZ"], readout_init="+i", observable="X", init=(-1.0, 1.0), dtype=torch.float64),
        zq.QNN.tfq(7, dtype=torch.float64),
    ],
    ids=["paper", "three", "turned", "shifted", "tutorial"],
)
@torch.no_grad()
def test_eight_numbers_are_the_whole_network(qnn):
    bits = torch.randint(0, 2, (64, 7))
    form = qnn.phases_and_amplitude()
    assert form.phases.shape == (7,)
    assert 0 <= form.amplitude <= 1
    torch.testing.assert_close(cosine(form, bits), qnn(bits), atol=1e-12, rtol=0)
    classical = zq.SineModel(7, shift=form.shift, constant=form.constant, dtype=torch.float64)
    classical.phases.copy_(form.phases)
    classical.amplitude.copy_(form.amplitude)
    assert sum(p.numel() for p in classical.parameters()) == 8
    torch.testing.assert_close(classical(bits.double()), qnn(bits), atol=1e-12, rtol=0)


def test_of_the_paper_it_is_minus_the_amplitude_times_a_sine():
    qnn = zq.QNN(5, init=(-1.0, 1.0))
    form = qnn.phases_and_amplitude()
    assert (form.shift, form.constant) == (pytest.approx(torch.pi / 2), 0)
    # a_j = <0| V_+^dagger V_- |0>, of ZX alone exp(-2 i theta): the phase of a bit is -2 theta, the amplitude 1.
    plain = zq.QNN(5, ["ZX"], dtype=torch.float64, init=(-1.0, 1.0))
    form = plain.phases_and_amplitude()
    torch.testing.assert_close(form.phases, -2 * plain.theta[0], atol=1e-12, rtol=0)
    torch.testing.assert_close(form.amplitude, torch.ones((), dtype=torch.float64))


def test_gradients_reach_the_angles_through_the_form():
    qnn = zq.QNN(5, init=(-1.0, 1.0), dtype=torch.float64)
    bits = torch.randint(0, 2, (6, 5))
    direct = torch.autograd.grad(qnn(bits).sum(), qnn.theta)[0]
    through = torch.autograd.grad(cosine(qnn.phases_and_amplitude(), bits).sum(), qnn.theta)[0]
    torch.testing.assert_close(direct, through)


def test_more_branches_are_no_such_form():
    with pytest.raises(ValueError, match="4 pairs of branches; only a model with one pair"):
        zq.QNN(5, ["ZX", "ZZ"], observable="X", readout_init="0").phases_and_amplitude()
    with pytest.raises(ValueError, match=r"method='closed' takes layers with one pair of branches, ZX, ZZ have 4"):
        zq.QNN(5, ["ZX", "ZZ"], observable="X", method="closed")


def test_bits_of_any_type_are_the_same_bits() -> None:
    torch.manual_seed(0)
    bits = torch.randint(0, 2, (5, 4))
    sine, qnn = zq.SineModel(4), zq.QNN(4)
    for kind in (torch.bool, torch.uint8, torch.float64):
        assert torch.equal(sine(bits.to(kind)), sine(bits))
        assert torch.equal(qnn(bits.to(kind)), qnn(bits))
