"""The folded copy gives what the network gives."""

from __future__ import annotations

import pytest
import torch

import zoo
from tests.layers.varifocal.goldens import check_close
from tests.models.varifocal.test_goldens import small
from zoo.models.varifocal import VarifocalNet, VarifocalOutput
from zoo.models.varifocal.folding import FoldedTrunk, folded
from zoo.models.varifocal.wide_trunk import WideTrunk

WIDE = {"img_size": 32, "stem": 16, "widths": (64, 80, 96), "depths": (2, 2, 1), "loc_hidden": 8, "mlp_hidden": 12}


def _moved(net: torch.nn.Module) -> torch.nn.Module:
    """With statistics and scales of a network that has learnt something."""
    generator = torch.Generator().manual_seed(1)
    for part in net.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            with torch.no_grad():
                for tensor, low, high in ((part.weight, 0.5, 1.5), (part.running_var, 0.5, 1.5), (part.bias, -1, 1)):
                    tensor.uniform_(low, high, generator=generator)
                part.running_mean.uniform_(-0.5, 0.5, generator=generator)
    return net


def _check_same(got: VarifocalOutput, wanted: VarifocalOutput, tolerance: float = 1e-5) -> None:
    for name in ("type", "polarity", "g_type", "l_type", "region", "box", "crop", "features"):
        check_close(getattr(got, name), getattr(wanted, name), tolerance)


@pytest.mark.parametrize("winograd", [False, True])
@pytest.mark.parametrize("strides", [(2, 2, 2), (1, 2, 2)])
def test_outputs_are_the_same(strides, winograd):
    torch.manual_seed(0)
    net = _moved(VarifocalNet(**WIDE, strides=strides)).eval()
    x = torch.rand(3, 1, 32, 32)
    with torch.no_grad():
        wanted = net(x)
        fast = folded(net, winograd=winograd)
        _check_same(fast(x), wanted)
        _check_same(net(x), wanted, 0)
    assert isinstance(net.g_net.trunk, WideTrunk)
    assert not fast.training
    used = [part.transformed is not None for part in fast.modules() if hasattr(part, "transformed")]
    assert any(used) == winograd


def test_the_reference_network_folded():
    net, tensors = small()
    with torch.no_grad():
        out = folded(net)(tensors["in.x"])
    for name in ("type", "polarity", "l_type", "box", "crop"):
        check_close(getattr(out, name), tensors[f"out.{name}"], 2e-5)


def test_gradients_and_precision_take_the_ordinary_way():
    torch.manual_seed(0)
    trunk = _moved(WideTrunk(1, widths=(64, 64), depths=(1, 1), strides=(1, 2))).eval()
    fast = FoldedTrunk(trunk)
    x, y = (torch.rand(2, 1, 12, 12).requires_grad_() for _ in range(2))
    y.data = x.data.clone()
    trunk(x).sum().backward()
    fast(y).sum().backward()
    torch.testing.assert_close(y.grad, x.grad, rtol=1e-4, atol=1e-4)
    assert fast.bfloat16()(x.detach().bfloat16()).dtype == torch.bfloat16


def test_other_models_are_refused(unchecked):
    with pytest.raises(TypeError, match=r"fast copy of a VarifocalNet \(varifocal, .*, got ResNet"):
        folded(zoo.create_model("resnet10t"))


def test_other_trunks_are_copied_and_the_copy_is_not_saved_as_the_network(tmp_path):
    net = zoo.create_model("varifocal", num_classes=3, img_size=64, head_pool=1, loc_pool=1).eval()
    x = torch.rand(2, 3, 64, 64)
    fast = folded(net)
    assert torch.equal(fast(x).type, net(x).type)
    with pytest.raises(zoo.ZooError, match="not made by a registered name"):
        zoo.save_pretrained(fast, tmp_path / "net")
