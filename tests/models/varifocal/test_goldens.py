"""Trunk and whole network: reference values and gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tests.layers.varifocal.goldens import check_close, golden, part_of
from zoo.models.varifocal import VarifocalNet
from zoo.models.varifocal.wide_trunk import WideTrunk
from zoo.weights.converters.varifocal import convert_public_wrn


def _trunk() -> tuple[WideTrunk, dict[str, torch.Tensor]]:
    kwargs, tensors = golden("wide_trunk_16_1")
    widths = [width * kwargs["widen_factor"] for width in (16, 32, 64)]
    depths = 3 * [kwargs["blocks_per_stage"]]
    trunk = WideTrunk(kwargs["in_chans"], stem=16, widths=widths, depths=depths, strides=kwargs["strides"])
    state, _ = convert_public_wrn(part_of(tensors, "state."))
    trunk.load_state_dict(part_of(state, "g_net.trunk."), strict=True)
    return trunk, tensors


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_trunk_is_the_public_one(channels_last):
    trunk, tensors = _trunk()
    x = tensors["in.x"]
    if channels_last:
        trunk, x = trunk.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    x = x.detach().requires_grad_()
    features = trunk.eval()(x)
    check_close(features, tensors["out.features"], 1e-5)
    (features * tensors["in.cotangent"]).sum().backward()
    check_close(x.grad, tensors["grad.x"], 1e-5)
    check_close(trunk.stem.weight.grad, tensors["grad.conv1.weight"], 1e-5)
    check_close(trunk.stages[1][0].bn1.weight.grad, tensors["grad.block2.layer.0.bn1.weight"], 1e-5)
    check_close(trunk.stages[2][0].shortcut.weight.grad, tensors["grad.block3.layer.0.convShortcut.weight"], 1e-5)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_trunk_trains_as_the_public_one(checkpointing):
    trunk, tensors = _trunk()
    trunk.set_grad_checkpointing(checkpointing)
    features = trunk.train()(tensors["in.x"].requires_grad_())
    logits = F.linear(F.avg_pool2d(features, 8).flatten(1), tensors["state.fc.weight"], tensors["state.fc.bias"])
    check_close(logits, tensors["out.logits_train"], 1e-5)
    logits.sum().backward()  # recomputation must not count twice for the running statistics
    check_close(trunk.norm.running_mean, tensors["out.running_mean_after.bn1"], 1e-5)
    check_close(trunk.norm.running_var, tensors["out.running_var_after.bn1"], 1e-5)
    assert int(trunk.stages[0][0].bn1.num_batches_tracked) == 1


def small() -> tuple[VarifocalNet, dict[str, torch.Tensor]]:
    """The network of the reference."""
    kwargs, tensors = golden("model_small_inset")
    model = VarifocalNet(**kwargs).eval()
    model.load_state_dict(part_of(tensors, "state."), strict=True)
    return model, tensors


def test_the_network_is_the_reference():
    model, tensors = small()
    x = tensors["in.x"].requires_grad_()
    out = model(x)
    for name in ("type", "polarity", "g_type", "g_polarity", "l_type", "l_polarity", "region", "box", "crop"):
        check_close(getattr(out, name), tensors[f"out.{name}"], 2e-5)
    check_close(out.features, tensors["out.feat"], 2e-5)
    check_close(model.forward_features(x), tensors["out.feat"], 2e-5)
    check_close(model.g_net.forward_map(x), tensors["out.g_map"], 2e-5)
    (out.l_type * tensors["in.cotangent"]).sum().backward()
    check_close(x.grad, tensors["grad.x"], 2e-5)
    for key, wanted in part_of(tensors, "grad.").items():
        if key != "x":
            check_close(model.get_parameter(key).grad, wanted, 2e-5)


def test_the_local_loss_reaches_the_localisation_through_the_crop():
    model, tensors = small()
    out = model.freeze_stage("local").train()(tensors["in.x"])
    F.cross_entropy(out.l_type, torch.tensor([3, 17])).backward()
    for parameter in model.g_net.loc.parameters():
        assert float(parameter.grad.abs().max()) > 0
    assert all(p.grad is None for p in model.g_net.trunk.parameters())
    assert all(p.grad is not None for p in model.l_net.trunk.parameters())
