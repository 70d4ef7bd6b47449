"""Probabilities and whole cases."""

from __future__ import annotations

import copy

import pytest
import torch
from PIL import Image
from torch import nn

import zoo
from zoo.karyotype import HUMAN, Template, dispatch
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
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        net.predict_case(torch.rand(2, 1, 32, 32), batch_size=0)
    for wrong in ((1.0,), (0.0, 1.0), (float("nan"), 1.0)):
        with pytest.raises(ValueError, match="temperature must be two numbers above 0"):
            net.temperature = wrong
    with pytest.raises(TypeError, match=r"\(types, polarities\), got 2.0; \(T, 1.0\) is for types alone"):
        net.temperature = 2.0


def test_arrays_and_lists_are_images(net):
    images = torch.rand(3, 1, 32, 32)
    wanted = net.case_log_probabilities(images)
    for given in (images.numpy(), images.double().numpy(), list(images), tuple(images.numpy())):
        torch.testing.assert_close(net.case_log_probabilities(given), wanted, rtol=1e-5, atol=1e-5)
    assert list(net.predict_case(images.numpy()).types) == list(net.predict_case(images).types)
    with pytest.raises(ValueError, match=r"must have one shape, got \[1, 32, 32\], \[1, 32, 31\]"):
        net.predict_case([images[0], images[0, ..., :31]])
    for wrong in ("images", [Image.new("L", (32, 32))], images.numpy().astype(str)):
        with pytest.raises(
            TypeError, match=r"images must be a tensor .*, an array, or a list of such, got .*ChromosomeTo"
        ):
            net.predict_case(wrong)


def _chromosomes(**cfg):
    """A network by name, with what it says of its images and classes changed."""
    net = zoo.create_model("varifocal_chromosome_nano", **{k: cfg.pop(k) for k in ("num_classes",) if k in cfg})
    net.pretrained_cfg.update(cfg)
    return net


def test_what_was_not_prepared_is_refused():
    net, images = _chromosomes(), 0.9 * torch.rand(4, 1, 64, 64)
    images[..., :8, :] = images[..., -8:, :] = 0
    assert len(net.predict_case(images * 1.3)) == 4  # augmented brightness
    for given in ((255 * images).byte(), (255 * images).byte().numpy()):
        with pytest.raises(
            TypeError, match=r"floating point in the normalised range, got torch.uint8; x.float\(\) / 255"
        ):
            net.predict_case(given)
    with pytest.raises(
        ValueError, match=r"from 0 to 1, chromosomes bright on black, got 0 to 229; .*ChromosomeToTensor"
    ):
        net.predict_case(255 * images)
    with pytest.raises(ValueError, match=r"and 4 of 4 have a bright or white background \(images 0, 1, 2, 3\)"):
        net.predict_case(1 - images)
    one = images.clone()
    one[2] = 120 / 255 - 0.4 * one[2]
    with pytest.raises(ValueError, match=r"bright on black, and 1 of 4 have a bright .* \(image 2\); .*ChromosomeTo"):
        net.predict_case(one)
    with pytest.raises(ValueError, match=r"canvas of 64x64 .*, got 96x96; ChromosomeToTensor\(64\) puts them there"):
        net.predict_case(nn.functional.pad(images, (16, 16, 16, 16)))
    with pytest.raises(ValueError, match="image 2 of 4 has the value 0 alone: no chromosome is in it"):
        net.predict_case(images * torch.tensor([1.0, 1, 0, 1])[:, None, None, None])
    with pytest.raises(ValueError, match=r"got \(4, 64, 64\); add the channel with x\[:, None\]"):
        net.predict_case(images[:, 0])
    standard = _chromosomes(mean=(0.5,), std=(0.25,), crop_mode="center")
    assert len(standard.predict_case((images - 0.5) / 0.25)) == 4
    assert len(standard.predict_case((0.5 - images) / 0.25)) == 4  # of its background nothing is known
    with pytest.raises(ValueError, match=r"must have values from -2 to 2, got 0 to 229; zoo.data_config tells more"):
        standard.predict_case(255 * images)


def test_types_are_found_by_their_names():
    """A network whose classes are in another order types a case as well; one of other classes says which it has."""
    net, images = _chromosomes(), torch.rand(5, 1, 64, 64) * torch.eye(64)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    wanted = net.predict_case(images)
    other = copy.deepcopy(net)
    with torch.no_grad():
        for layer in (other.g_net.head.fc_type, other.l_net.head.fc_type, other.fusion.mlp_type[-1]):
            layer.weight.copy_(layer.weight[order])
            layer.bias.copy_(layer.bias[order])
    other.pretrained_cfg = {**net.pretrained_cfg, "label_names": [HUMAN.names[n] for n in order.tolist()]}
    found = other.predict_case(images)
    assert found.names == wanted.names
    assert found.cost == pytest.approx(wanted.cost, rel=1e-5)
    with pytest.raises(ValueError, match=r"24 types 1 to Y, .* has 3 classes, without 1, .*; besides a, b, c. zoo"):
        _chromosomes(num_classes=(3, 2), label_names=["a", "b", "c"]).predict_case(images)
    with pytest.raises(ValueError, match=r"this one has 24 classes, without 1, .* besides chr1, chr2, chr3, "):
        _chromosomes(label_names=[f"chr{name}" for name in HUMAN.names]).predict_case(images)
    mouse = _chromosomes(num_classes=(21, 2))
    assert len(mouse.predict_case(images, template=Template.diploid(19))) == 5
    with pytest.raises(ValueError, match=r"24 types 1 to Y, its label_names; this one has 21 classes\. "):
        mouse.predict_case(images)
