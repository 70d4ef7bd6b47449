"""Probabilities and whole cases."""

from __future__ import annotations

import pytest
import torch

from zoo.karyotype import dispatch
from zoo.models.varifocal import VarifocalNet

SMALL = {"img_size": 32, "widths": (4, 6, 8), "depths": (1, 1, 1), "loc_hidden": 8, "mlp_hidden": 12}


@pytest.fixture
def net() -> VarifocalNet:
    torch.manual_seed(0)
    return VarifocalNet(**SMALL, temperature=(2.0, 0.5)).train()


def test_probabilities_are_of_the_logits_by_temperature(net):
    out = net.eval()(torch.rand(4, 1, 32, 32))
    types, polarity = net.log_probabilities(out)
    torch.testing.assert_close(types, torch.log_softmax(out.type / 2, 1))
    torch.testing.assert_close(polarity, torch.log_softmax(out.polarity / 0.5, 1))
    torch.testing.assert_close(types.exp().sum(1), torch.ones(4))


def test_a_case_is_dispatched_by_its_probabilities(net):
    images = torch.rand(46, 1, 32, 32)
    found = net.predict_case(images, batch_size=10)
    assert net.training
    net.eval()
    logs = net.log_probabilities(net(images))[0].detach()
    torch.testing.assert_close(net.case_log_probabilities(images).float(), logs, rtol=1e-5, atol=1e-5)
    wanted = dispatch(logs.double().numpy())
    assert list(found.types) == list(wanted.types)
    assert (found.sex, found.karyotype) == (wanted.sex, wanted.karyotype)
    assert sum(found.copies) == 46
    female = net.predict_case(images, sex="XX", strict=True)
    assert (female.sex, female.karyotype) == ("XX", "46,XX")


def test_what_is_no_case_is_refused(net):
    with pytest.raises(ValueError, match="at least one image"):
        net.predict_case(torch.rand(0, 1, 32, 32))
    with pytest.raises(ValueError, match="no types to tell"):
        VarifocalNet(**SMALL, num_classes=0).predict_case(torch.rand(2, 1, 32, 32))
    with pytest.raises(ValueError, match="sex"):
        net.predict_case(torch.rand(2, 1, 32, 32), sex="ZZ")
    for wrong in ((1.0,), (0.0, 1.0), (float("nan"), 1.0)):
        with pytest.raises(ValueError, match="temperature must be two numbers above 0"):
            net.temperature = wrong
