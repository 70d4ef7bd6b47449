"""Any backbone: of timm in all layouts, of ours with replaced parts, a module."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import zoo
from zoo.models.varifocal import GNet, LNet, VarifocalNet

#: Maps in both layouts, tokens with and without a class token, networks with unused parts, hybrids.
TINY = {
    "resnet18": {"img_size": 64},
    "convnext_atto": {"img_size": 64},
    "mobilenetv3_small_050": {"img_size": 64},
    "efficientnet_b0": {"img_size": 64},
    "vit_tiny_patch16_224": {"img_size": 64, "local_size": 32},
    "deit_tiny_distilled_patch16_224": {"img_size": 64},
    "swin_tiny_patch4_window7_224": {"img_size": 224, "local_size": 112},
    "mixer_s32_224": {"img_size": 64},
    "mobilevit_xxs": {"img_size": 64},
    "levit_128s": {"img_size": 224, "local_size": 224},
}


@pytest.mark.parametrize("name", TINY)
def test_any_backbone_runs_a_case(name):
    size = TINY[name]["img_size"]
    count = 46 if size <= 64 else 2
    model = VarifocalNet(name, **TINY[name], head_pool=2, loc_pool=2, loc_hidden=8, mlp_hidden=8).eval()
    x = torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        out = model(x)
    assert (out.type.shape, out.polarity.shape) == ((count, 24), (count, 2))
    assert out.type.isfinite().all()
    if count == 46:
        assert sum(model.predict_case(x).copies) == 46


@pytest.mark.parametrize("name", ["convnext_atto", "mobilenetv3_small_050", "vit_tiny_patch16_224"])
def test_every_parameter_learns(name):
    """What the features do not need is not in the trunk: several processes ask for a gradient of everything."""
    model = VarifocalNet(name, img_size=64, num_classes=(3, 2), head_pool=1, loc_pool=1, loc_hidden=4, mlp_hidden=4)
    out = model(torch.rand(2, 1, 64, 64))
    total = sum(getattr(out, f"{scale}{task}").square().sum() for scale in ("g_", "l_", "") for task in TASKS)
    total.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


TASKS = ("type", "polarity")


def test_tokens_become_the_map_that_they_are_of():
    net = GNet("vit_tiny_patch16_224", img_size=(48, 80), head_pool=1, loc_pool=1).eval()
    assert (net.shape.height, net.shape.width, net.shape.prefix) == (3, 5, 1)
    x = torch.rand(1, 1, 48, 80)
    features = net.forward_map(x)
    tokens = net.trunk.forward_features(x)
    torch.testing.assert_close(features[0, :, 2, 3], tokens[0, 1 + 2 * 5 + 3])


def test_maps_with_channels_last_are_turned():
    net = GNet("swin_tiny_patch4_window7_224", img_size=224, head_pool=1, loc_pool=1).eval()
    assert net.shape.channels_last
    x = torch.rand(1, 1, 224, 224)
    with torch.inference_mode():
        torch.testing.assert_close(net.forward_map(x)[0, :, 2, 3], net.trunk.forward_features(x)[0, 2, 3])


def test_features_are_those_of_timm():
    torch.manual_seed(0)
    net = LNet("resnet18", img_size=64, head_pool=2).eval()
    plain = zoo.create_model("resnet18", in_chans=1, num_classes=0).eval()
    plain.load_state_dict(net.trunk.state_dict())
    x = torch.rand(2, 1, 64, 64)
    torch.testing.assert_close(net.forward_map(x), plain.forward_features(x))


def test_a_composition_is_a_backbone(tmp_path):
    spec = {"base": "vit_tiny_patch16_224", "mlp": {"type": "kan", "hidden_ratio": 0.5}, "depth": 2}
    options = {"img_size": 32, "head_pool": 1, "loc_pool": 1, "loc_hidden": 4, "mlp_hidden": 8}
    model = zoo.create_model("varifocal", backbone=spec, num_classes=5, in_chans=3, **options).eval()
    assert any(type(part).__name__ == "KANMlp" for part in model.g_net.trunk.modules())
    x = torch.rand(2, 3, 32, 32)
    zoo.save_pretrained(model, tmp_path / "net")
    again = zoo.create_model(f"local-dir:{tmp_path / 'net'}").eval()
    assert torch.equal(again(x).type, model(x).type)


def test_a_module_is_a_backbone_of_both_scales_each_with_its_own_weights():
    trunk = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU())
    model = VarifocalNet(trunk, img_size=32, in_chans=3, num_classes=4, head_pool=2, loc_pool=2).eval()
    assert (model.g_net.reduction, model.g_net.num_features) == (4, 32)
    weights = [net.trunk[0].weight for net in (model.g_net, model.l_net)]
    assert torch.equal(*weights)
    assert len({trunk[0].weight.data_ptr(), *(w.data_ptr() for w in weights)}) == 3
    assert model(torch.rand(2, 3, 32, 32)).type.shape == (2, 4)


def test_a_module_that_looks_at_values():
    class Looks(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3, 2, 1)

        def forward(self, x):
            return self.conv(x if float(x.detach().sum()) > 0 else -x)

    model = VarifocalNet(Looks(), img_size=16, head_pool=2, loc_pool=2).eval()
    assert model(torch.rand(2, 1, 16, 16)).type.shape == (2, 24)


def test_backbones_recompute_too():
    torch.manual_seed(0)
    model = VarifocalNet(nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU()), img_size=32)
    x = torch.rand(2, 1, 32, 32)
    wanted = model.train()(x).g_type
    model.set_grad_checkpointing()
    torch.testing.assert_close(model(x).g_type, wanted)
    assert int(model.g_net.trunk[1].num_batches_tracked) == 2
    assert VarifocalNet("vit_tiny_patch16_224", img_size=32, head_pool=1, loc_pool=1).set_grad_checkpointing() is None
