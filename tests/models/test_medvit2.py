"""MedViTV2: the official numbers, invariances, and what can be done to the model."""

import copy
import math
import subprocess
import sys

import pytest
import torch
from torch import nn

import zoo
from tests.models.macs import count_macs
from tests.models.medvit2_goldens import fill_input, golden
from zoo.layers.kan.fasterkan import SwitchGrid
from zoo.models.medvit2 import MedViT2
from zoo.weights.converters.medvit2 import convert_official

# Spec of the published variants, 9 classes: parameters with the fixed grids but without dead weights, and GMACs.
PUBLISHED = {
    "tiny": (10_353_982, 2.635),
    "small": (26_828_694, 3.908),
    "base": (60_092_938, 7.939),
    "large": (106_401_324, 13.002),
}
NAMES = [n for n in zoo.list_models("medvit2*") if zoo.registry.model_entry(n).name == n]
SLOW_BACKENDS = {"attn_backend": "reference", "kan_backend": "reference"}


def nano(**options) -> MedViT2:
    """The smallest model, with norms that do something."""
    torch.manual_seed(0)
    model = zoo.create_model("medvit2_kan_nano", **{"num_classes": 5, **options})
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.uniform_(-0.3, 0.3)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.3, 0.3)
            elif isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.normal_(module.weight, std=0.7 * module.weight[0].numel() ** -0.5)
    return model.eval()


def _golden_model(case, **options) -> MedViT2:
    if case.name == "medvit_reduced":
        kwargs = {k: v for k, v in case.kwargs.items() if k != "path_dropout"}
        model = MedViT2(**kwargs, **options)
        state = case.state()
    else:
        model = zoo.create_model("medvit2_kan_tiny", **case.kwargs, **options)
        state = golden("medvit_tiny_224").state()
    model.load_state_dict(convert_official(state)[0], strict=True)
    return model.eval()


@pytest.mark.parametrize("options", [{}, SLOW_BACKENDS], ids=["fast", "reference"])
@pytest.mark.parametrize("name", ["medvit_reduced", "medvit_tiny_224", "medvit_tiny_224_dilated"])
def test_golden_model(name, options):
    case = golden(name)
    model = _golden_model(case, **options)
    seen = {}
    watched = {"stem": model.stem, "norm": model.norm, **{f"features.{i}": b for i, b in enumerate(model.features)}}
    for place, module in watched.items():
        module.register_forward_hook(lambda _, __, out, place=place: seen.setdefault(place, out))
    x = case.tensors["in.x"] if "in.x" in case.tensors else fill_input("input.tiny", [1, 3, 224, 224], 1.5)
    with torch.no_grad():
        case.assert_output(model(x))
    for place, out in seen.items():
        case.assert_output(out.flatten()[:16], f"out.{place}.first16")
        case.assert_output(torch.stack([out.mean(), out.std()]), f"out.{place}.mean_std")


def test_backward_agrees_between_the_fast_and_the_reference_path():
    case = golden("medvit_reduced")
    x = case.tensors["in.x"].expand(2, -1, -1, -1) * torch.tensor([1.0, -0.7]).view(2, 1, 1, 1)
    gradients = []
    for options in ({}, SLOW_BACKENDS):
        model = _golden_model(case, drop_path_rate=0.0, **options).train()
        image = x.clone().requires_grad_()
        model(image).square().sum().backward()
        gradients.append({"x": image.grad, **{n: p.grad for n, p in model.named_parameters()}})
    fast, reference = gradients
    for key, value in reference.items():
        scale = float(value.abs().max())
        torch.testing.assert_close(fast[key], value, atol=2e-3 * scale + 1e-4, rtol=0, msg=lambda m, k=key: f"{k}: {m}")


@pytest.mark.parametrize("name", NAMES)
def test_catalogue_row_states_the_model_as_built(name):
    entry = zoo.registry.model_entry(name)
    model = zoo.create_model(name, device="meta")
    assert sum(p.numel() for p in model.parameters()) == entry.params
    size = entry.name.rpartition("_")[2]
    if size in PUBLISHED:
        nine = zoo.create_model(name, num_classes=9, device="meta")
        grids = sum(m.grid.numel() for m in nine.modules() if isinstance(m, SwitchGrid))
        assert sum(p.numel() for p in nine.parameters()) + grids == PUBLISHED[size][0]
    if not name.startswith("medvit2_dina") or size == "tiny":  # the windows cost the same wherever they lie
        assert sum(count_macs(model, entry.input_size).values()) == entry.macs
        if size in PUBLISHED:
            assert math.floor(sum(count_macs(nine, entry.input_size).values()) / 1e6) / 1e3 == PUBLISHED[size][1]


def test_shares_of_the_work_in_tiny():
    counts = count_macs(zoo.create_model("medvit2_kan_tiny", device="meta"), (3, 224, 224))

    def share(*marks: str) -> float:
        return round(sum(v for k, v in counts.items() if any(m in k for m in marks)) / 1e9, 3)

    assert (share(".kan."), share(".attn"), share(".conv.conv"), share("stem.")) == (1.105, 0.334, 0.470, 0.600)


def test_alias_is_the_small_model():
    assert zoo.registry.model_entry("medvit2_kan").name == "medvit2_kan_small"


def test_initial_values():
    torch.manual_seed(0)
    model = zoo.create_model("medvit2_kan_nano", num_classes=10)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and module.weight.numel() > 2000:
            assert 0.018 < float(module.weight.detach().std()) < 0.022, name
        if isinstance(module, nn.Linear) and module.bias is not None:
            assert not module.bias.any(), name
    assert 0.01 < float(model.features[1].attn.rpb.detach().std()) < 0.03
    assert torch.equal(model.norm.weight, torch.ones(128))


def test_to_empty_then_init_weights():
    model = zoo.create_model("medvit2_kan_nano", device="meta")
    assert {t.device.type for t in (*model.parameters(), *model.buffers())} == {"meta"}
    model.to_empty(device="cpu").init_weights()
    assert torch.equal(model.features[2].kan.layers[0].rbf.grid, torch.linspace(-2, 2, 8))
    assert torch.isfinite(model.eval()(torch.randn(2, 3, 32, 32))).all()


@pytest.mark.parametrize("order", ["memory", "spatial"])
def test_logits_do_not_depend_on_memory_format_batch_or_fusing(order):
    model = nano(token_order=order)
    x = torch.randn(3, 3, 40, 35)
    with torch.no_grad():
        expected = model(x)
        assert 0.1 < float(expected.std()) < 3
        torch.testing.assert_close(model(x.to(memory_format=torch.channels_last)), expected, atol=1e-5, rtol=1e-5)
        singles = torch.cat([model(image[None]) for image in x])
        torch.testing.assert_close(singles, expected, atol=1e-5, rtol=1e-5)
        fused = copy.deepcopy(model).train()
        assert fused.fuse() is fused
        assert not fused.training
        torch.testing.assert_close(fused(x), expected, atol=1e-5, rtol=1e-5)
        last = copy.deepcopy(model).to(memory_format=torch.channels_last)
        torch.testing.assert_close(last(x), expected, atol=1e-5, rtol=1e-5)
        assert model(x[:0]).shape == (0, 5)


def test_memory_order_and_spatial_order_differ():
    x = torch.randn(2, 3, 32, 32)
    assert not torch.allclose(nano(token_order="memory")(x), nano(token_order="spatial")(x), atol=1e-3)


def test_non_square_and_odd_sides():
    model = zoo.create_model("medvit2_kan_tiny", num_classes=4).eval()
    with torch.no_grad():
        assert model.forward_features(torch.randn(1, 3, 224, 256)).shape == (1, 384, 7, 8)
        assert model.forward_features(torch.randn(1, 3, 97, 131)).shape == (1, 384, 4, 5)
    assert nano()(torch.randn(1, 3, 17, 64)).shape == (1, 5)


def test_not_a_number_passes_through():
    x = torch.randn(2, 3, 32, 32)
    x[0, 0, 0, 0] = math.nan
    y = nano()(x)
    assert y[0].isnan().any()
    assert y[1].isfinite().all()


def test_bfloat16_and_float64():
    model, x = nano(), torch.randn(2, 3, 32, 32)
    expected = model(x).detach()
    torch.testing.assert_close(model.double()(x.double()).detach().float(), expected, atol=1e-4, rtol=1e-4)
    half = model.float().bfloat16()(x.bfloat16())
    assert half.dtype == torch.bfloat16
    assert float((half.detach().float() - expected).abs().max() / expected.abs().max()) < 0.1


def test_drop_path_rises_linearly_and_splits_in_global_blocks():
    model = MedViT2((32, 64, 64, 64), (1, 2, 3, 1), mix_block_ratio=0.5, drop_path_rate=0.6)
    rates = [0.6 * i / 6 for i in range(7)]
    assert [
        getattr(b, "drop_path", b).drop_prob
        for b in model.features
        if hasattr(b, "attn") and b is not model.features[0]
    ] == [pytest.approx(rates[i]) for i in (1, 3, 4)]
    for i in (2, 5, 6):
        block = model.features[i]
        drops = [block.drop_path1.drop_prob, block.drop_path2.drop_prob, block.drop_path3.drop_prob]
        assert drops == [pytest.approx(f * rates[i]) for f in (0.75, 0.25, 1)]


def test_dropout_options_reach_their_places():
    model = MedViT2((32, 64, 64, 64), (1, 2, 3, 1), mix_block_ratio=0.5, drop_rate=0.2, attn_drop=0.3)
    assert model.features[0].attn.attn_drop == 0.2
    assert model.features[0].attn.proj_drop.p == 0.0
    assert (model.features[2].e_mhsa.attn_drop.p, model.features[2].e_mhsa.proj_drop.p) == (0.3, 0.2)
    model.train()
    torch.manual_seed(0)
    x = torch.randn(2, 3, 112, 112)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


@pytest.mark.parametrize("base_branch", [False, True])
def test_checkpointing_changes_neither_gradients_nor_statistics(base_branch):
    plain = nano(kan_base_branch=base_branch, drop_path_rate=0.2).train()
    saving = copy.deepcopy(plain)
    saving.set_grad_checkpointing()
    x = torch.randn(4, 3, 32, 32)
    for model in (plain, saving):
        torch.manual_seed(1)
        model(x).square().sum().backward()
    for (name, a), b in zip(plain.named_parameters(), saving.parameters(), strict=True):
        assert a.grad is not None, name
        torch.testing.assert_close(b.grad, a.grad, msg=lambda m, n=name: f"{n}: {m}")
    for (name, a), b in zip(plain.named_buffers(), saving.buffers(), strict=True):
        assert torch.equal(a, b), name


def test_classifier_can_be_replaced_and_removed():
    model, x = nano(), torch.randn(2, 3, 32, 32)
    features = model.forward_features(x)
    pooled = model.forward_head(features, pre_logits=True)
    torch.testing.assert_close(pooled, features.mean((2, 3)))
    torch.testing.assert_close(model(x), pooled @ model.get_classifier().weight.T + model.get_classifier().bias)
    model.reset_classifier(0)
    torch.testing.assert_close(model(x), pooled)
    assert isinstance(model.get_classifier(), nn.Identity)
    model.reset_classifier(7, "catavgmax")
    assert (model.head_hidden_size, model.get_classifier().in_features, model(x).shape) == (256, 256, (2, 7))
    model.reset_classifier(3)
    assert model.global_pool.pool_type == "catavgmax"
    model.reset_classifier(0, "")
    torch.testing.assert_close(model(x), features)
    model.double().train().reset_classifier(2, "avg")
    assert model.get_classifier().weight.dtype == torch.float64
    assert model.get_classifier().training
    assert not model.get_classifier().bias.any()


def test_features_of_the_stages():
    model, x = nano(), torch.randn(2, 3, 32, 32)
    assert [(f["num_chs"], f["reduction"]) for f in model.feature_info] == [(32, 2), (64, 4), (64, 8), (128, 16)]
    final, maps = model.forward_intermediates(x)
    torch.testing.assert_close(final, model.forward_features(x))
    assert [tuple(m.shape[1:]) for m in maps] == [(32, 16, 16), (64, 8, 8), (64, 4, 4), (128, 2, 2)]
    torch.testing.assert_close(model.norm(maps[-1]), final)
    assert torch.equal(model.forward_intermediates(x, 1, norm=True, intermediates_only=True)[0], final)
    assert torch.equal(model.forward_intermediates(x, [-3], stop_early=True)[0], maps[1])
    extractor = zoo.create_model("medvit2_kan_nano", features_only=True, out_indices=(1, 3)).eval()
    assert extractor.feature_info.channels() == [64, 128]
    assert extractor.feature_info.reduction() == [4, 16]
    assert [tuple(o.shape[1:]) for o in extractor(x)] == [(64, 8, 8), (128, 2, 2)]
    published = zoo.create_model("medvit2_kan_tiny", features_only=True, device="meta")
    assert published.feature_info.reduction() == [4, 8, 16, 32]


@pytest.mark.parametrize("cls", ["list", "dict", "hook", "fx"])
@pytest.mark.filterwarnings("ignore:.*NOTE. The nodes obtained by tracing.*:UserWarning")
def test_every_feature_extractor_of_timm(cls, unchecked):
    model = nano()
    extractor = zoo.create_model("medvit2_kan_nano", features_only=True, feature_cls=cls, out_indices=(0, 2)).eval()
    # The extractors rename the same layers in the same order, and end early.
    extractor.load_state_dict(dict(zip(extractor.state_dict(), model.state_dict().values(), strict=False)), strict=True)
    x = torch.randn(1, 3, 32, 32)
    out = extractor(x)
    taps = model.forward_intermediates(x, [0, 2], intermediates_only=True)
    torch.testing.assert_close(list(out.values()) if isinstance(out, dict) else out, taps)


def test_pruning_keeps_the_tap():
    model, x = nano(), torch.randn(2, 3, 32, 32)
    taps = model.forward_intermediates(x, intermediates_only=True)
    assert model.prune_intermediate_layers([-3]) == [1]
    assert len(model.features) == 3
    assert model.num_features == model.head_hidden_size == 64
    torch.testing.assert_close(model(x), taps[1])
    whole = nano()
    expected = whole(x)
    assert whole.prune_intermediate_layers(1, prune_head=False) == [3]
    assert torch.equal(whole(x), expected)


def test_parameter_groups_and_weight_decay():
    from timm.models._manipulate import group_parameters

    model = nano()
    groups = group_parameters(model, model.group_matcher(), reverse=True)
    assert groups["stem.0.conv.weight"] == 0
    assert groups["features.0.attn.rpb"] + 1 == groups["features.1.attn.rpb"]
    assert groups["norm.weight"] == groups["features.6.norm2.weight"]
    assert groups["proj_head.0.weight"] == groups["norm.weight"] + 1 == max(groups.values())
    names = dict(model.named_parameters())
    spared = model.no_weight_decay()
    assert spared <= set(names)
    assert {"features.0.attn.rpb", "norm.weight", "features.2.kan.layers.0.layernorm.bias"} <= spared
    assert not any(n in spared for n in ("features.0.attn.qkv.weight", "features.0.attn.qkv.bias", "proj_head.0.bias"))


def test_every_parameter_learns_and_every_size_of_input_channel_works():
    model = zoo.create_model("medvit2_kan_nano", in_chans=1, num_classes=3, kan_base_branch=True).train()
    model(torch.randn(2, 1, 32, 32)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


_CAPTURE = """
import copy, io, warnings; warnings.simplefilter("ignore")
import numpy, onnxruntime, torch, zoo
torch.manual_seed(0)
x = torch.randn(2, 3, 32, 32, dtype=torch.float64)  # in float64 the same mathematics has the same digits

def close(a, b):
    torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)

for order in ("memory", "spatial"):
    model = zoo.create_model("medvit2_kan_nano", num_classes=5, token_order=order, drop_path_rate=0.0).double()
    for module in model.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            torch.nn.init.normal_(module.weight, std=0.7 * module.weight[0].numel() ** -0.5)
    if order == "spatial":
        logits = torch.compile(model, fullgraph=True, backend="aot_eager")(x)
        close(logits, model(x))
        for p, q in zip(torch.autograd.grad(logits.sum(), model.parameters()),
                        torch.autograd.grad(model(x).sum(), model.parameters())):
            close(p, q)
    model(torch.randn(8, 3, 32, 32).double())  # running statistics that matter
    model.eval()
    with torch.no_grad():
        expected = model(x)
        program = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        close(program.module()(torch.cat([x, x]))[2:], expected)
        if order == "memory":
            file = io.BytesIO()
            single, x32 = copy.deepcopy(model).float(), torch.cat([x, x]).float()
            batch = {0: torch.export.Dim("batch")}
            torch.onnx.export(single, (x32,), dynamo=True, dynamic_shapes=(batch,), verbose=False).save(file)
            session = onnxruntime.InferenceSession(file.getvalue())
            logits = session.run(None, {session.get_inputs()[0].name: x32.numpy()})[0]
            torch.testing.assert_close(torch.from_numpy(logits)[2:], expected.float(), atol=5e-5, rtol=1e-4)
        close(torch.jit.script(model)(x), expected)
print("done")
"""


def test_script_compile_export_and_onnx():
    """In a process of its own: TorchScript and torch.fx read the functions, not the run-time checks around them."""
    pytest.importorskip("onnxscript")
    done = subprocess.run([sys.executable, "-c", _CAPTURE], capture_output=True, text=True, timeout=500, check=False)
    assert done.stdout.strip().endswith("done"), done.stderr[-3000:]
