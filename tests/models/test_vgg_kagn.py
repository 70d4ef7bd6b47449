"""VGG-KAGN: the official numbers, the published sizes and files, and what can be done to the model."""

import copy
import json
import re
import subprocess
import sys

import pytest
import safetensors.torch
import torch
from huggingface_hub import CommitOperationAdd, HfApi
from torch import nn

import zoo
from tests.layers.kan.goldens import golden
from tests.models.macs import count_macs
from zoo.errors import ConversionError, MismatchError, UnknownModelError
from zoo.models.vgg_kagn import VGGKAGN
from zoo.registry import weights_entry
from zoo.weights.converters.kan import convert_official

NAMES = ["vgg_kagn11_v2", "vgg_kagn11_v4", "vgg_kagn_bn11_v4"]
#: Parameters, GFLOP at 224 pixels (two a multiplication), and top-1 and top-5 of the model cards.
PUBLISHED = {
    "vgg_kagn11_v2": (24_652_420, 27.3, 0.591, 0.8229),
    "vgg_kagn11_v4": (41_424_516, 28.9, 0.6117, 0.8326),
    "vgg_kagn_bn11_v4": (7_252_115, 5.13, 0.685, 0.8846),
}
NARROW = [[4], [6, 8], [12]]


def small(layer="gram", **options) -> VGGKAGN:
    """A narrow model of three stages, with norms that do something."""
    torch.manual_seed(0)
    norm = "instance" if layer == "gram" else "batch"
    options = {"dims": NARROW, "num_classes": 5, "layer": layer, "norm": norm, "degree": 3, **options}
    model = VGGKAGN(**options)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if ".norm." in name and tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5)
    return model.eval()


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_golden_model(backend):
    case = golden("vgg_kagn_bn_tiny")
    dims = [[4], [8], [16, 16], [32, 32], [32, 32], [48, 48]]
    model = VGGKAGN(dims, num_classes=7, layer="bottleneck", norm="batch", degree=3, backend=backend).eval()
    model.load_state_dict(convert_official(case.part("state"))[0])
    x = case.tensors["in.x"].clone().requires_grad_()
    y = model(x)
    case.check(y, case.tensors["out.y"])
    y.backward(case.tensors["in.cotangent"])
    wanted = case.tensors["grad.input"]
    torch.testing.assert_close(x.grad, wanted, atol=1e-4 * float(wanted.abs().max()), rtol=1e-4)
    torch.testing.assert_close(copy.deepcopy(model).fuse()(x), y, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_published_sizes(name):
    params, gflop, top1, top5 = PUBLISHED[name]
    entry = zoo.registry.model_entry(name)
    model = zoo.create_model(name, device="meta")
    assert sum(p.numel() for p in model.parameters()) == entry.params == params
    macs = sum(count_macs(model, entry.input_size).values())
    assert macs == entry.macs
    assert f"{2e-9 * macs:.3g}" == f"{gflop:.3g}"
    row = weights_entry(f"{name}.in1k")
    assert row.metrics == {"top1": top1, "top5": top5, "split": "val", "dataset": "ImageNet-1k"}
    assert (row.repo, row.default) == (f"brivangl/{name}", True)
    config = zoo.data_config(model)
    assert (config["crop_pct"], config["interpolation"]) == (0.875, "bilinear")


def _official(model: VGGKAGN) -> dict[str, torch.Tensor]:
    """The state dict of a model in the layout of the published files."""
    state = {}
    for key, value in model.state_dict().items():
        key = re.sub(r"\.(base_conv|inner_proj|out_proj)\.", r".\1.0.", key).replace(".norm.", ".layer_norm.0.")
        key = key.replace(".basis_conv.weight", ".poly_weights").replace(".beta", ".beta_weights")
        state[key] = value[None].clone() if key.endswith("poly_weights") else value.clone()
    return state


@pytest.fixture
def narrow(monkeypatch):
    """The registered model, with a tenth of its channels and the checkpoint row of a repository on the test hub."""

    def narrow(name, repo):
        registry = zoo.registry.default_registry()
        entry = registry.model(name)
        monkeypatch.setitem(entry.args, "dims", [[4], [4], [8, 8], [12, 12], [12, 12], [20, 20]])
        row = registry.weights(name)
        monkeypatch.setitem(registry._weights[name], "in1k", type(row)(**{**vars(row), "repo": repo}))

    return narrow


@pytest.mark.parametrize("name", NAMES)
def test_published_files_load_as_they_are(hub, narrow, name):
    repo = hub.repo_id()
    narrow(name, repo)
    torch.manual_seed(0)
    model = zoo.create_model(name).eval()
    config = {"input_channels": 3, "num_classes": 1000, "degree": 5, "vgg_type": "VGG11v4"}  # the builder's arguments
    api = HfApi(token=hub.token)
    api.create_repo(repo)
    files = {
        "config.json": json.dumps(config).encode(),
        "model.safetensors": safetensors.torch.save(_official(model)),
    }
    api.create_commit(repo, [CommitOperationAdd(*file) for file in files.items()], commit_message="Add files")
    x = torch.randn(1, 3, 64, 64)
    loaded = zoo.create_model(name, pretrained=True, cache_dir=hub.cache).eval()
    assert torch.equal(loaded(x), model(x))
    assert loaded.zoo_source["repo"] == repo
    other = zoo.create_model(f"{name}.in1k", pretrained=True, num_classes=3, cache_dir=hub.cache).eval()
    assert torch.equal(other.forward_features(x), model.forward_features(x))
    grey = zoo.create_model(name, pretrained=True, in_chans=1, cache_dir=hub.cache).eval()
    torch.testing.assert_close(grey(x[:, :1]), model(x[:, :1].expand(-1, 3, -1, -1)), atol=1e-5, rtol=1e-4)
    same = zoo.create_model(name)
    zoo.load_weights(same, f"hf-hub:{repo}", cache_dir=hub.cache)
    assert torch.equal(same.eval()(x), model(x))


def test_files_on_disk_are_converted(tmp_path, narrow):
    narrow("vgg_kagn_bn11_v4", "nobody/nothing")
    model = zoo.create_model("vgg_kagn_bn11_v4", num_classes=4).eval()
    safetensors.torch.save_file(_official(model), tmp_path / "official.safetensors")
    report = zoo.weights.convert_file(tmp_path / "official.safetensors", tmp_path / "ours", "vgg_kagn_bn11_v4")
    assert (report.num_classes, report.in_chans) == (4, 3)
    again = zoo.create_model(f"local-dir:{tmp_path / 'ours'}").eval()
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(again(x), model(x))


def test_a_layout_that_is_not_known_does_not_load(narrow):
    narrow("vgg_kagn_bn11_v4", "nobody/nothing")
    model = zoo.create_model("vgg_kagn_bn11_v4")
    state = {**_official(model), "features.0.attn.weight": torch.zeros(1)}
    with pytest.raises(MismatchError, match=r"does not fit vgg_kagn_bn11_v4: 100 missing.*; 101 unexpected"):
        zoo.load_weights(model, state)
    with pytest.raises(ConversionError, match=r"vgg_kagn_bn11_v4_opt and vgg_kagn_bn11sa_v4, are not known"):
        zoo.weights.convert(state, "vgg_kagn_bn11_v4")
    with pytest.raises(UnknownModelError, match="did you mean 'vgg_kagn_bn11_v4'"):
        zoo.create_model("vgg_kagn_bn11_v4_opt")


@pytest.mark.parametrize("layer", ["gram", "bottleneck"])
def test_to_empty_then_init_weights(layer):
    model = small(layer, device="meta")
    assert {t.device.type for t in (*model.parameters(), *model.buffers())} == {"meta"}
    model.to_empty(device="cpu")
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data.fill_(7)
    model.init_weights()
    assert not any((t == 7).all() for t in (*model.parameters(), *model.buffers()))
    assert torch.equal(model.features[0].norm.weight, torch.ones(4))
    assert model(torch.randn(2, 3, 16, 16)).isfinite().all()


def test_classifier_can_be_replaced_and_removed():
    model, x = small(), torch.randn(2, 3, 16, 16)
    features = model.forward_features(x)
    pooled = model.forward_head(features, pre_logits=True)
    torch.testing.assert_close(pooled, features.mean((2, 3)))
    torch.testing.assert_close(model(x), model.get_classifier()(pooled))
    model.reset_classifier(0)
    torch.testing.assert_close(model(x), pooled)
    model.reset_classifier(7, "catavgmax")
    assert (model.head_hidden_size, model(x).shape) == (24, (2, 7))
    model.reset_classifier(0, "")
    torch.testing.assert_close(model(x), features)
    model.double().train().reset_classifier(2, "avg")
    assert model.get_classifier().weight.dtype == torch.float64
    assert model.classifier.training
    model.reset_classifier(2, "")
    with pytest.raises(ValueError, match="cannot read: reset_classifier with a pooling"):
        model.double()(x.double())


def test_dropouts_reach_their_places():
    model = small(drop_rate=0.5, conv_drop=0.2)
    assert model.classifier[0].p == 0.5
    assert [m.dropout.p for m in model.features if hasattr(m, "dropout")] == [0.2] * 4
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(model(x), model(x))
    model.train()
    assert not torch.equal(model.forward_features(x), model.forward_features(x))


@pytest.mark.parametrize("layer", ["gram", "bottleneck"])
def test_checkpointing_changes_neither_gradients_nor_statistics(layer):
    plain = small(layer).train()
    plain.classifier[0].p = 0.0
    saving = copy.deepcopy(plain)
    saving.set_grad_checkpointing()
    x = torch.randn(3, 3, 16, 16)
    for model in (plain, saving):
        model(x).square().sum().backward()
    for (name, a), b in zip(plain.named_parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, msg=lambda m, n=name: f"{n}: {m}")
    for (name, a), b in zip(plain.named_buffers(), saving.named_buffers(), strict=True):
        assert torch.equal(a, b[1]), name


def test_features_of_the_stages():
    model, x = small(), torch.randn(2, 3, 16, 24)
    final, maps = model.forward_intermediates(x)
    torch.testing.assert_close(final, model.forward_features(x))
    assert [tuple(m.shape[1:]) for m in maps] == [(4, 16, 24), (8, 8, 12), (12, 4, 6)]
    assert torch.equal(maps[-1], final)
    assert torch.equal(model.forward_intermediates(x, [-3], stop_early=True)[0], maps[0])
    assert torch.equal(model.forward_intermediates(x, 1, intermediates_only=True)[0], final)
    published = zoo.create_model("vgg_kagn11_v2", features_only=True, device="meta")
    assert published.feature_info.reduction() == [1, 2, 4, 8, 16, 32]
    assert model.prune_intermediate_layers([1]) == [1]
    assert (len(model.features), model.num_features) == (4, 8)
    torch.testing.assert_close(model(x), maps[1])


def test_parameter_groups_and_weight_decay():
    from timm.models._manipulate import group_parameters

    model = small()
    groups = group_parameters(model, model.group_matcher(), reverse=True)
    assert groups["features.0.beta"] == 0
    assert groups["features.2.beta"] + 1 == groups["features.3.base_conv.weight"]
    assert groups["classifier.1.weight"] == max(groups.values())
    coarse = group_parameters(model, model.group_matcher(coarse=True), reverse=True)
    assert [coarse[f"features.{i}.beta"] for i in (0, 2, 3, 5)] == [0, 1, 1, 2]
    assert model.no_weight_decay() == {
        f"features.{i}.{n}" for i in (0, 2, 3, 5) for n in ("beta", "norm.weight", "norm.bias")
    }


def test_bad_options_and_images(unchecked):
    for options, message in {
        "dims": ([], "dims must be rows of widths"),
        "layer": ("grams", "did you mean 'gram'"),
        "norm": ("bach", "did you mean 'batch'"),
        "in_chans": (0, "in_chans must be"),
        "global_pool": ("mean", "global_pool must be one of"),
        "num_classes": (-1, "num_classes must be"),
        "img_size": (4, "an image of 4×4 is too small: its sides are divided by 4, .*2 pixel"),
    }.items():
        with pytest.raises(ValueError, match=message[1]):
            small(**{options: message[0]})
    model = small()
    for shape, message in {
        (3, 16, 16): "add the batch",
        (1, 1, 16, 16): "in_chans= sets the channels",
        (1, 3, 4, 7): "the smallest is 4×8",
    }.items():
        with pytest.raises(ValueError, match=message):
            model(torch.zeros(shape))
    with pytest.raises(TypeError, match="floating point"):
        model(torch.zeros(1, 3, 16, 16, dtype=torch.uint8))
    assert model(torch.zeros(1, 3, 4, 8)).shape == (1, 5)
    assert small("bottleneck")(torch.zeros(1, 3, 4, 4)).shape == (1, 5)


def test_formats_and_precisions_agree():
    model, x = small(), torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        expected = model(x)
        last = copy.deepcopy(model).to(memory_format=torch.channels_last)
        torch.testing.assert_close(last(x.to(memory_format=torch.channels_last)), expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(torch.cat([model(i[None]) for i in x]), expected, atol=1e-5, rtol=1e-4)
        assert model(x[:0]).shape == (0, 5)
        assert float((model.bfloat16()(x.bfloat16()).float() - expected).abs().max() / expected.abs().max()) < 0.1


def test_every_parameter_learns():
    model = small("bottleneck", degree=3).train()
    model(torch.randn(4, 3, 16, 16)).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())
    assert isinstance(model.features[0].norm, nn.BatchNorm2d)


_CAPTURE = """
import warnings; warnings.simplefilter("ignore")
import torch
from zoo.models.vgg_kagn import VGGKAGN
torch.manual_seed(0)
x = torch.randn(2, 3, 16, 16)
for layer, norm in (("gram", "instance"), ("bottleneck", "batch")):
    model = VGGKAGN([[4], [6, 8], [12]], num_classes=5, layer=layer, norm=norm).eval()
    wanted = model(x)
    programs = [
        torch.jit.script(model),
        torch.compile(model, fullgraph=True, backend="aot_eager"),
        torch.export.export(model, (x,)).module(),
    ]
    for program in programs:
        torch.testing.assert_close(program(x), wanted, atol=1e-5, rtol=1e-4)
"""


def test_scripting_compiling_and_exporting():
    done = subprocess.run([sys.executable, "-c", _CAPTURE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
