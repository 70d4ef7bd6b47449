"""A wide unit whose maps are made again in the backward pass: the same gradients, and only its input is kept."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from zoo.layers.varifocal import WideUnit
from zoo.layers.varifocal.recomputed_unit import can_recompute, recomputed


@pytest.mark.parametrize(("chans", "stride"), [(6, 1), (8, 1), (6, 2)])
@pytest.mark.parametrize("frozen", [(), ("conv1.weight", "bn2.bias"), ("x", "shortcut.weight", "conv2.weight")])
def test_gradients_and_statistics_are_those_of_the_unit(chans, stride, frozen):
    torch.manual_seed(0)
    plain = WideUnit(6, chans, stride=stride, dtype=torch.float64).train()
    for name, parameter in plain.named_parameters():
        if "bn" in name:
            nn.init.normal_(parameter, 1.0, 0.3)
        parameter.requires_grad_(name not in frozen)
    twin, x = copy.deepcopy(plain), torch.randn(3, 6, 9, 7, dtype=torch.float64)
    inputs = [x.clone().requires_grad_("x" not in frozen) for _ in range(2)]
    assert can_recompute(twin, inputs[1])
    outputs = plain(inputs[0]), recomputed(twin, inputs[1])
    torch.testing.assert_close(*outputs, rtol=0, atol=0)
    for output in outputs:
        (output * torch.linspace(-1, 1, output.numel(), dtype=x.dtype).view_as(output)).sum().backward()
    pairs = [*zip(plain.named_parameters(), twin.parameters(), strict=True), (("x", inputs[0]), inputs[1])]
    for (name, one), two in pairs:
        if name in frozen:
            assert one.grad is None, name
            assert two.grad is None, name
        else:
            torch.testing.assert_close(two.grad, one.grad, rtol=1e-12, atol=1e-12, msg=name)
    for (name, one), two in zip(plain.named_buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(two, one, rtol=0, atol=0, msg=name)


def test_only_the_input_is_kept():
    unit, x = WideUnit(4, 6, stride=2).train(), torch.randn(2, 4, 8, 8, requires_grad=True)
    own, kept = {id(value) for value in unit.parameters()}, []
    with torch.autograd.graph.saved_tensors_hooks(lambda value: kept.append(value) or value, lambda value: value):
        recomputed(unit, x)
    assert [value.shape for value in kept if id(value) not in own] == [x.shape]
    (gradient,) = torch.autograd.grad(recomputed(unit, x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.sum().backward()


def test_other_units_go_the_ordinary_way():
    """Layers that were put in their place, that somebody listens to, or that are not in training."""
    x = torch.randn(2, 4, 8, 8)
    changed: list[Any] = [WideUnit(4, 6).train() for _ in range(6)]
    changed[0].bn2.eval()
    changed[1].bn1 = nn.SyncBatchNorm(4)
    changed[2].conv1 = nn.Sequential(changed[2].conv1)
    changed[3].shortcut.register_forward_hook(lambda *_: None)
    torch.nn.utils.parametrizations.weight_norm(changed[4].conv2)
    changed[5].register_full_backward_hook(lambda *_: None)
    assert [can_recompute(unit, x) for unit in changed] == [False] * 6
    plain = WideUnit(4, 6).train()
    assert can_recompute(plain, x)
    with torch.autocast("cpu", torch.bfloat16):
        assert not can_recompute(plain, x)
    assert not can_recompute(nn.Conv2d(4, 6, 3), x)
