"""`load_weights`: compared first, then loaded; adapted where wanted; never silently partial."""

import pytest
import timm
import torch
from torch import nn

from zoo.errors import MismatchError, NonFiniteWeightsError
from zoo.weights import load_weights, save_safetensors
from zoo.weights.config import ModelConfig
from zoo.weights.source import Checkpoint


def make(name="test_vit", seed=0, **options):
    torch.manual_seed(seed)
    return timm.create_model(name, **options).eval()


def state(model):
    return {k: v.clone() for k, v in model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_convnext"])
def test_loads_a_file_into_a_model_bit_for_bit(tmp_path, name):
    source, target = make(name), make(name, seed=1)
    save_safetensors(source.state_dict(), tmp_path / "x.safetensors")
    parameters = {id(p) for p in target.parameters()}
    report = load_weights(target, tmp_path / "x.safetensors")
    assert same(source.state_dict(), target.state_dict())
    assert {id(p) for p in target.parameters()} == parameters
    assert report.loaded == list(target.state_dict())
    assert str(report) == f"{len(report.loaded)} tensors from {tmp_path / 'x.safetensors'}"
    image = torch.randn(2, *source.pretrained_cfg["input_size"])
    assert torch.equal(source(image), target(image))


def test_values_take_the_model_s_type(tmp_path):
    source, target = make().half(), make(seed=1)
    load_weights(target, source.state_dict())
    assert target.head.weight.dtype == torch.float32
    assert torch.equal(target.head.weight, source.head.weight.float())


def test_assign_takes_the_tensors_of_the_file_without_changing_it(tmp_path):
    path = tmp_path / "x.safetensors"
    save_safetensors(make().state_dict(), path)
    before = path.read_bytes()
    target = make(seed=1)
    target.patch_embed.requires_grad_(False)
    load_weights(target, path, assign=True)
    assert not target.patch_embed.proj.weight.requires_grad
    assert target.head.weight.requires_grad
    with torch.no_grad():
        for parameter in target.parameters():
            parameter.add_(1)
    assert path.read_bytes() == before


def test_a_missing_backbone_tensor_is_an_error_even_when_the_head_is_adapted():
    source, target = state(make(num_classes=5)), make(num_classes=7)
    del source["blocks.1.norm1.weight"]
    before = state(target)
    with pytest.raises(MismatchError) as caught:
        load_weights(target, source)
    assert "1 missing: blocks.1.norm1.weight" in str(caught.value)
    assert "strict=False" in str(caught.value)
    assert same(before, target.state_dict())  # nothing was changed


def test_unexpected_and_misshapen_tensors_are_named():
    source = state(make())
    source["extra.weight"] = torch.zeros(2)
    source["blocks.0.mlp.fc1.weight"] = torch.zeros(3, 3)
    with pytest.raises(MismatchError) as caught:
        load_weights(make(), source)
    assert "1 unexpected: extra.weight" in str(caught.value)
    assert "blocks.0.mlp.fc1.weight (3, 3) for (" in str(caught.value)


def test_not_strict_loads_what_fits_and_reports_the_rest_but_no_other_shapes():
    source, target = state(make()), make(seed=1)
    norm = target.norm.weight.clone()
    del source["norm.weight"]
    source["extra.weight"] = torch.zeros(2)
    report = load_weights(target, source, strict=False)
    assert report.missing == ["norm.weight"]
    assert report.unexpected == ["extra.weight"]
    assert torch.equal(target.norm.weight, norm)
    assert torch.equal(target.head.weight, source["head.weight"])
    assert "fresh       norm.weight" in str(report)
    source["norm.bias"] = torch.zeros(1)
    with pytest.raises(MismatchError, match="another shape"):
        load_weights(target, source, strict=False)


def test_another_number_of_classes_drops_the_classifier_alone():
    source, target = state(make(num_classes=5)), make(seed=1, num_classes=7)
    head = target.head.weight.clone()
    report = load_weights(target, source)
    assert torch.equal(target.head.weight, head)
    assert torch.equal(target.blocks[0].mlp.fc1.weight, source["blocks.0.mlp.fc1.weight"])
    assert report.missing == ["head.weight", "head.bias"]
    assert report.adapted["head.weight"] == "classifier for 5 classes dropped, the model has 7"
    with pytest.raises(MismatchError, match=r"classifier for 5 classes, the model is built for 7.*num_classes=5"):
        load_weights(target, source, adapt=())


def test_a_head_whose_shapes_fit_is_kept_whatever_the_config_says():
    """timm compares with the registered class count and drops a trained head that fits."""
    source, target = state(make(num_classes=5)), make(seed=1, num_classes=5)
    config = ModelConfig("test_vit", pretrained_cfg={"num_classes": 1000, "input_size": (3, 160, 160)})
    load_weights(target, Checkpoint(source, "x", config))
    assert torch.equal(target.head.weight, source["head.weight"])


def test_a_head_with_other_inputs_is_a_mismatch_not_another_class_count():
    source = state(make(num_classes=5))
    source["head.weight"] = torch.zeros(5, 3)
    with pytest.raises(MismatchError, match=r"head\.weight \(5, 3\) for"):
        load_weights(make(num_classes=7), source)


def test_a_model_without_head_takes_the_backbone_and_the_other_way_round():
    source, bare = state(make(num_classes=5)), make(seed=1, num_classes=0)
    report = load_weights(bare, source)
    assert "head.weight" in report.adapted
    target = make(seed=2, num_classes=5)
    report = load_weights(target, bare.state_dict())
    assert report.missing == ["head.weight", "head.bias"]
    with pytest.raises(MismatchError, match=r"head\.weight"):
        load_weights(target, bare.state_dict(), adapt=("in_chans",))


def test_background_classes_are_cut_off():
    source, target = state(make(num_classes=6)), make(seed=1, num_classes=5)
    config = ModelConfig("test_vit", pretrained_cfg={"num_classes": 6, "label_offset": 1})
    report = load_weights(target, Checkpoint(source, "x", config))
    assert torch.equal(target.head.weight, source["head.weight"][1:])
    assert torch.equal(target.head.bias, source["head.bias"][1:])
    assert report.missing == []


@pytest.mark.parametrize(("name", "conv"), [("test_vit", "patch_embed.proj"), ("test_resnet", "conv1.0")])
def test_first_convolution_is_adapted_as_timm_does(name, conv):
    source = make(name)
    for channels in (1, 2, 4):
        target = make(name, seed=1, in_chans=channels)
        report = load_weights(target, source.state_dict())
        cfg = dict(source.pretrained_cfg, state_dict=state(source))
        theirs = timm.create_model(name, pretrained=True, in_chans=channels, pretrained_cfg=cfg)
        assert same(theirs.state_dict(), target.state_dict())
        assert report.adapted[f"{conv}.weight"] == f"3 -> {channels} image channels"
    with pytest.raises(MismatchError, match=r"3 channel\(s\), the model takes 1"):
        load_weights(make(name, in_chans=1), source.state_dict(), adapt=("head",))


def test_channels_that_contradict_the_config_are_an_error():
    config = ModelConfig("test_vit", pretrained_cfg={"input_size": (4, 160, 160)})
    with pytest.raises(MismatchError, match="means images of 3 channels, but its config says 4"):
        load_weights(make(in_chans=1), Checkpoint(state(make()), "x", config))


def test_a_first_layer_that_cannot_be_adapted_is_random_with_a_warning():
    """A space-to-depth stem knows only the sum to one channel."""
    model = nn.Sequential(nn.Conv2d(8, 4, 3))
    model.in_chans, model.pretrained_cfg = 2, {"first_conv": "0"}
    weight = model[0].weight.clone()
    source = {"0.weight": torch.zeros(4, 12, 3, 3), "0.bias": torch.zeros(4)}
    with pytest.warns(UserWarning, match=r"0\.weight of .* is random"):
        report = load_weights(model, source)
    assert torch.equal(model[0].weight, weight)
    assert report.missing == ["0.weight"]
    assert report.adapted["0.weight"].startswith("reinitialised")


def test_renaming_and_the_hint_for_a_common_prefix():
    source, target = state(make()), make(seed=1)
    prefixed = {f"encoder.{k}": v for k, v in source.items()}
    with pytest.raises(MismatchError) as caught:
        load_weights(target, prefixed)
    assert "rename=[(r'^encoder\\.', '')]" in str(caught.value)
    load_weights(target, prefixed, rename=[(r"^encoder\.", "")])
    assert same(source, target.state_dict())


def test_a_layout_of_another_implementation_points_to_conversion():
    foreign = {f"net.{i}.kernel": torch.zeros(1) for i in range(20)}
    with pytest.raises(MismatchError, match="zoo convert"):
        load_weights(make(), foreign)


def test_old_checkpoints_without_batch_norm_counters_load():
    source, target = state(make("test_resnet")), make("test_resnet", seed=1)
    counters = [k for k in source if k.endswith("num_batches_tracked")]
    target.bn1.num_batches_tracked.fill_(3)
    load_weights(target, {k: v for k, v in source.items() if k not in counters})
    assert target.bn1.num_batches_tracked == 0


def test_a_family_s_own_filter_resamples_position_embeddings():
    source, target = make("test_vit", img_size=160), make("test_vit", seed=1, img_size=96)
    load_weights(target, source.state_dict())
    cfg = dict(source.pretrained_cfg, state_dict=state(source))
    theirs = timm.create_model("test_vit", pretrained=True, img_size=96, pretrained_cfg=cfg)
    assert same(theirs.state_dict(), target.state_dict())


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(5, 4), nn.Linear(4, 5)
        self.out.weight = self.embed.weight


@pytest.mark.parametrize("assign", [False, True])
def test_shared_parameters_are_restored_and_stay_shared(tmp_path, assign):
    source, target = Tied(), Tied()
    save_safetensors(source.state_dict(), tmp_path / "x.safetensors")
    report = load_weights(target, tmp_path / "x.safetensors", assign=assign)
    assert report.missing == []
    assert target.out.weight is target.embed.weight
    assert torch.equal(target.out.weight, source.out.weight)


def test_a_shared_tensor_missing_under_every_name_is_missing():
    with pytest.raises(MismatchError, match=r"2 missing: embed\.weight, out\.weight"):
        load_weights(Tied(), {"out.bias": torch.zeros(5)})


def test_modules_that_rename_what_they_load_are_left_to_it():
    class Renames(nn.Linear):
        def __init__(self):
            super().__init__(2, 2)
            self.register_load_state_dict_pre_hook(self._rename)

        @staticmethod
        def _rename(module, state_dict, prefix, *args):
            if prefix + "kernel" in state_dict:
                state_dict[prefix + "weight"] = state_dict.pop(prefix + "kernel")

    model = nn.Sequential(Renames())
    load_weights(model, {"0.kernel": torch.ones(2, 2), "0.bias": torch.ones(2)})
    assert torch.equal(model[0].weight, torch.ones(2, 2))
    with pytest.raises(MismatchError, match=r"0\.weight"):
        load_weights(model, {"0.bias": torch.ones(2)})


def test_non_finite_values_and_unknown_adaptations_are_refused():
    source = state(make())
    source["norm.bias"][3] = float("nan")
    with pytest.raises(NonFiniteWeightsError, match=r"norm\.bias"):
        load_weights(make(), source)
    load_weights(make(), source, check_finite=False)
    with pytest.raises(ValueError, match="'head', 'in_chans', got 'pos_embed'"):
        load_weights(make(), state(make()), adapt=("pos_embed",))
