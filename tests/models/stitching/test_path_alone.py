"""What is done for one path of a stitched network: batch statistics of its own, other weights out of the way."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import zoo
from tests.models.stitching.test_contract import build, stitched
from zoo.errors import UnknownStitchError


def batch_norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]


def test_batch_statistics_are_those_of_the_path() -> None:
    """After one batch, the path in evaluation gives what it gives in training on that batch (up to the variance)."""
    net, _ = build("resnet")
    x = torch.randn(16, 3, 64, 64) * 3 + 1
    number = stitched(net)
    before = copy.deepcopy(net.state_dict())
    made = zoo.recalibrate_bn(net, x, stitch=number)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert not made.training
    assert all(not norm.training and norm.momentum == 0.1 for norm in batch_norms(made))
    pieces = [made.stem.conv1(x)]
    first = batch_norms(made)[0]
    torch.testing.assert_close(first.running_mean, pieces[0].mean((0, 2, 3)))
    torch.testing.assert_close(first.running_var, pieces[0].var((0, 2, 3), unbiased=True))
    trained = copy.deepcopy(made).train()
    torch.testing.assert_close(made(x), trained(x), rtol=0.05, atol=0.05)
    assert (net(x, stitch=number) - trained(x)).abs().max() > 5 * (made(x) - trained(x)).abs().max()


def test_batches_count_by_their_images() -> None:
    net, _ = build("resnet")
    x = torch.randn(12, 3, 64, 64)
    made = zoo.recalibrate_bn(net, [(x[:8], torch.zeros(8)), x[8:]], stitch=0)
    mean = made.stem.conv1(x).mean((0, 2, 3))
    torch.testing.assert_close(batch_norms(made)[0].running_mean, mean)
    few = zoo.recalibrate_bn(net, x, stitch=0, num_batches=1, batch_size=4)
    torch.testing.assert_close(batch_norms(few)[0].running_mean, few.stem.conv1(x[:4]).mean((0, 2, 3)))


def test_an_exported_path_is_changed_itself() -> None:
    net, x = build("resnet")
    made = net.export(stitched(net))
    assert zoo.recalibrate_bn(made, x) is made
    kept = copy.deepcopy(made.state_dict())
    for data, error, said in (([], ValueError, "got none"), (["a"], TypeError, "expected tensors")):
        with pytest.raises(error, match=said):
            zoo.recalibrate_bn(made, data)
    assert all(torch.equal(value, kept[key]) for key, value in made.state_dict().items())
    with pytest.raises(ValueError, match="leave out stitch=0"):
        zoo.recalibrate_bn(made, x, stitch=0)
    vit, x = build("vit")
    made = vit.export(0)
    kept = copy.deepcopy(made.state_dict())
    zoo.recalibrate_bn(made, x)  # has none
    assert all(torch.equal(value, kept[key]) for key, value in made.state_dict().items())


@pytest.mark.parametrize("family", ["vit", "swin", "resnet"])
def test_weights_that_a_path_does_not_run_are_let_go(family: str) -> None:
    net, x = build(family)
    number = stitched(net)
    net.set_stitch(number)
    wanted, whole = net(x), sum(t.numel() * t.element_size() for t in (*net.parameters(), *net.buffers()))
    kept = sum(t.numel() * t.element_size() for t in (*net.export().parameters(), *net.export().buffers()))
    freed = net.offload_unused()
    assert whole - freed == kept
    assert sum(t.numel() * t.element_size() for t in (*net.parameters(), *net.buffers()) if not t.is_meta) == kept
    assert torch.equal(net(x), wanted)
    assert torch.equal(net.export()(x), wanted)
    with pytest.raises(UnknownStitchError, match="were let go by offload_unused"):
        net.set_stitch(0)
    assert net.stitch == number
    assert torch.equal(net(x), wanted)
    with pytest.raises(UnknownStitchError, match="were let go"):
        net(x, stitch=1)


def test_weights_that_are_loaded_again_are_back() -> None:
    net, x = build("vit")
    state = copy.deepcopy(net.state_dict())
    wanted = net(x, stitch=1)
    net.set_stitch(0)
    net.offload_unused()
    net.load_state_dict(state, assign=True)
    assert torch.equal(net(x, stitch=1), wanted)


def test_weights_elsewhere_come_back_when_they_are_needed() -> None:
    """With "cpu" on a network that is there, nothing moves and every path still runs."""
    net, x = build("vit")
    wanted: list[Any] = [net(x, stitch=config.id) for config in net._configs]
    net.set_stitch(0)
    assert net.offload_unused("cpu") == 0
    for config in net._configs:
        assert torch.equal(net(x, stitch=config.id), wanted[config.id])
