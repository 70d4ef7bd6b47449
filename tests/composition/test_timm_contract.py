"""A composed model is still a timm model: everything that timm asks of one is true of it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from typing import Any

import pytest
import timm
import torch
from timm.models import PretrainedCfg, group_parameters
from timm.optim import create_optimizer_v2, param_groups_layer_decay
from torch import nn

import zoo
from tests.composition.models import COMPOSITIONS, NAMES, composed, images, output, spec_of
from zoo.composition.specialise import original_class

WITH_HEAD = [n for n in NAMES if "head" in COMPOSITIONS[n][1]]
each = pytest.mark.parametrize("name", NAMES)


def plain(name: str, **options: Any) -> Any:
    """The backbone with its own parts."""
    base, _, arguments = COMPOSITIONS[name]
    return timm.create_model(base, **{"num_classes": 5, **arguments, **options}).eval()


def heads(model: nn.Module) -> list[nn.Module]:
    names = model.pretrained_cfg["classifier"]
    return [model.get_submodule(n) for n in ([names] if isinstance(names, str) else names)]


@each
def test_it_is_of_the_backbones_class_and_says_what_it_is(name):
    model, base = composed(name), plain(name)
    assert isinstance(model, type(base))
    assert type(model).__name__ == type(base).__name__
    assert type(model).__module__ == type(base).__module__
    assert (model.num_classes, model.in_chans, model.num_features) == (5, 3, base.num_features)
    assert model.head_hidden_size == base.head_hidden_size
    assert model.feature_info == base.feature_info


@each
def test_names_of_parameters_are_those_of_the_backbone_outside_the_new_parts(name):
    model, base = composed(name), plain(name)
    paths = tuple(f"{change.path}." for change in model.zoo_composition.changes)

    def outside(m):
        return {n: t.shape for n, t in m.state_dict().items() if not n.startswith(paths)}

    assert outside(model) == outside(base)
    assert any(n.startswith(paths) for n in model.state_dict())


@each
def test_get_classifier_is_what_ends_the_model(name):
    model = composed(name)
    classifier = model.get_classifier()
    leaves = list(classifier) if isinstance(classifier, tuple) else [classifier]
    with_layers = [leaf for head in leaves for leaf in head.modules()]
    assert all(any(leaf is m for m in with_layers) for leaf in heads(model))
    features = model.forward_head(model.forward_features(images(model)), pre_logits=True)
    logits = [leaf(features) for leaf in heads(model)]
    if name == "two heads":  # each reads a token of its own; the features are their mean
        assert len(logits) == 2
    else:
        torch.testing.assert_close(logits[0], output(model))


@each
def test_reset_classifier_keeps_the_kind_of_head(name):
    model = composed(name)
    before = [original_class(head) for head in heads(model)]
    with torch.no_grad():
        pre_logits = model.forward_head(model.forward_features(images(model)), pre_logits=True)
    model.reset_classifier(3)
    assert model.num_classes == model.zoo_spec["num_classes"] == 3
    assert [original_class(head) for head in heads(model)] == before
    assert output(model).shape == (2, 3)
    model.reset_classifier(0)
    assert torch.equal(output(model), pre_logits)
    assert not [c for c in model.zoo_composition.changes if c.slot == "head"]
    model.reset_classifier(7)
    assert [original_class(head) for head in heads(model)] == before
    assert output(model).shape == (2, 7)
    # What it says of itself builds it again.
    again = zoo.compose(model.zoo_spec).eval()
    again.load_state_dict(model.state_dict())
    assert torch.equal(output(again), output(model))


@pytest.mark.parametrize("name", WITH_HEAD)
def test_a_reset_head_draws_new_values_on_the_device_and_in_the_type_of_the_old(name):
    model = composed(name).double()
    old = heads(model)
    torch.manual_seed(1)
    model.reset_classifier(5)
    for head, before in zip(heads(model), old, strict=True):
        assert head is not before
        weights = [(p, q) for p, q in zip(head.parameters(), before.parameters(), strict=True) if p.ndim > 1]
        assert weights
        assert all(p.dtype == torch.float64 and not torch.equal(p, q) for p, q in weights)
    with torch.no_grad():
        assert model(images(model).double()).dtype == torch.float64
    meta = composed(name).to("meta")
    meta.reset_classifier(3)
    assert all(p.is_meta for p in meta.parameters())


@pytest.mark.parametrize("name", WITH_HEAD)
def test_reset_leaves_the_mode_and_what_is_frozen(name):
    for training in (True, False):
        model = composed(name).train(training)
        model.requires_grad_(False)
        model.reset_classifier(3)
        new = {id(p) for head in heads(model) for p in head.parameters()}
        assert all(module.training is training for module in model.modules())
        assert all(p.requires_grad == (id(p) in new) for p in model.parameters())


@pytest.mark.parametrize("name", ["convnet head", "convnext mlp and head", "vit mlp and pool", "every part", "ours"])
def test_a_pooling_of_the_backbones_own_can_be_asked_for(name):
    model = composed(name)
    before = model.zoo_spec
    features = model.forward_features(images(model))
    model.reset_classifier(0, "")
    unpooled = output(model)
    assert unpooled.shape[-2:] == features.shape[-2:]
    assert "pool" not in model.zoo_spec
    model.reset_classifier(5, "avg")
    assert output(model).shape == (2, 5)
    assert {k: v for k, v in before.items() if k != "pool"}.items() <= model.zoo_spec.items()
    assert not [c for c in model.zoo_composition.changes if c.slot == "pool"]


def test_a_pool_stays_where_a_new_head_comes_without_a_word_of_it():
    model = composed("vit mlp and pool")
    pool = model.zoo_pool
    model.reset_classifier(3)
    assert model.zoo_pool is pool
    assert model.zoo_spec["pool"] == {"type": "avg"}


@each
def test_every_parameter_has_the_group_of_what_it_replaces(name):
    model, base = composed(name), plain(name)
    for coarse in (True, False):
        groups = group_parameters(model, model.group_matcher(coarse=coarse), reverse=True)
        wanted = group_parameters(base, base.group_matcher(coarse=coarse), reverse=True)
        assert groups.keys() == dict(model.named_parameters()).keys()
        assert {n: g for n, g in groups.items() if n in wanted}.items() <= wanted.items()
        for change in model.zoo_composition.changes:
            old = {g for n, g in wanted.items() if n.startswith(f"{change.path}.")}
            new = {g for n, g in groups.items() if n.startswith(f"{change.path}.")}
            assert not new or new == old, change.path


@each
def test_layer_decay_scales_new_parameters_as_the_old_ones(name):
    model, base = composed(name), plain(name)

    def scales(m):
        groups = param_groups_layer_decay(m, layer_decay=0.5)
        by_id = {id(p): n for n, p in m.named_parameters()}
        found = {by_id[id(p)]: g["lr_scale"] for g in groups for p in g["params"]}
        assert set(found) == set(by_id.values())
        return found

    ours, theirs = scales(model), scales(base)
    for change in model.zoo_composition.changes:
        of_old = {s for n, s in theirs.items() if n.startswith(f"{change.path}.")}
        of_new = {s for n, s in ours.items() if n.startswith(f"{change.path}.")}
        assert of_new <= of_old, change.path
    optimizer = create_optimizer_v2(model, "adamw", lr=1e-3, layer_decay=0.5)
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(list(model.parameters()))


@each
def test_no_weight_decay_names_what_exists(name):
    model, base = composed(name), plain(name)
    inherited = set(base.no_weight_decay()) if hasattr(base, "no_weight_decay") else set()
    parameters = dict(model.named_parameters()).keys()
    assert inherited & parameters <= model.no_weight_decay()
    assert model.no_weight_decay() - inherited <= parameters


class Undecayed(nn.Linear):
    """A head with a parameter that shall not decay."""

    def no_weight_decay(self):
        return {"weight"}


def test_what_a_module_excludes_from_weight_decay_is_excluded():
    model = zoo.create_model("test_vit", head=Undecayed, num_classes=5, img_size=64)
    assert "head.weight" in model.no_weight_decay()
    assert "pos_embed" in model.no_weight_decay()
    groups = create_optimizer_v2(model, "adamw", lr=1e-3, weight_decay=0.1).param_groups
    decay = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
    assert decay[id(model.head.weight)] == 0.0
    assert decay[id(model.blocks[0].mlp.fc1.weight)] == 0.1
    model.reset_classifier(3)
    assert "head.weight" in model.no_weight_decay()
    model.reset_classifier(0)
    assert "head.weight" not in model.no_weight_decay()


@each
def test_checkpointing_changes_neither_output_nor_gradients(name):
    model = composed(name)
    x = images(model).requires_grad_()

    def gradients():
        model.zero_grad()
        out = model(x)
        out.square().sum().backward()
        return out.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    wanted, plain_gradients = gradients()
    model.set_grad_checkpointing(True)
    got, checkpointed = gradients()
    assert torch.equal(got, wanted)
    assert checkpointed.keys() == plain_gradients.keys()
    for key, gradient in checkpointed.items():
        torch.testing.assert_close(gradient, plain_gradients[key], msg=key)
    new = tuple(f"{c.path}." for c in model.zoo_composition.changes if c.new_params)
    assert any(k.startswith(new) for k in checkpointed)


@each
def test_forward_is_features_then_head(name):
    model = composed(name)
    x = images(model)
    with torch.no_grad():
        features = model.forward_features(x)
        assert torch.equal(model.forward_head(features), model(x))
        pre = model.forward_head(features, pre_logits=True)
    assert pre.shape == (2, model.head_hidden_size)


@each
def test_the_last_intermediate_is_the_features(name):
    model = composed(name)
    x = images(model)
    with torch.no_grad():
        final, intermediates = model.forward_intermediates(x)
        assert torch.equal(final, model.forward_features(x))
        assert len(intermediates) > 1
        (last,) = model.forward_intermediates(x, indices=[-1], intermediates_only=True)
    assert torch.equal(last, intermediates[-1])


@pytest.mark.parametrize("feature_cls", ["list", "dict", "hook", "fx", "getter"])
@pytest.mark.parametrize("name", ["convnet head", "convnext mlp and head", "mlp on channels-first maps"])
def test_features_only_gives_the_intermediates_of_the_composition(name, feature_cls):
    same_features(name, feature_cls)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("convnet head", "convnext mlp and head")])
def test_features_only_of_every_backbone(name):
    same_features(name, None)


def same_features(name: str, feature_cls: str | None) -> None:
    model = composed(name)
    options = {"feature_cls": feature_cls} if feature_cls else {}
    with torch.no_grad():
        wanted = model.forward_intermediates(images(model), intermediates_only=True)
    indices = (0, len(wanted) - 1)
    extractor = zoo.create_model(**spec_of(name), features_only=True, out_indices=indices, **options).eval()
    # The names differ by extractor; the tensors are those of the model.
    state = {_flat(n): t for n, t in model.state_dict().items()}
    own = {_flat(n.removeprefix(_PREFIXES[feature_cls])): t for n, t in extractor.state_dict().items()}
    assert own.keys() <= state.keys()
    with torch.no_grad():
        for key, tensor in own.items():
            tensor.copy_(state[key])
        found = extractor(images(model))
    found = list(found.values()) if isinstance(found, dict) else found
    for got, index in zip(found, indices, strict=True):
        assert torch.equal(got, wanted[index])
    assert extractor.feature_info.channels() == [wanted[i].shape[1] for i in indices]
    for change in model.zoo_composition.changes:
        if change.new_params and change.slot not in ("head", "pool"):
            assert any(key.startswith(_flat(f"{change.path}.")) for key in own), change.path


_PREFIXES = {"list": "", "dict": "", "hook": "body.", "fx": "graph_module.", "getter": "model.", None: "model."}


def _flat(name: str) -> str:
    """timm joins the first levels of names where it flattens containers."""
    return name.replace("_", ".")


def test_feature_info_and_indices_of_an_extractor():
    extractor = zoo.create_model("test_convnext", mlp="kan", features_only=True, out_indices=(1, 3))
    base = timm.create_model("test_convnext", features_only=True, out_indices=(1, 3))
    assert extractor.feature_info.channels() == base.feature_info.channels()
    assert extractor.feature_info.reduction() == base.feature_info.reduction()
    assert [f.shape for f in extractor(torch.zeros(1, 3, 64, 64))] == [f.shape for f in base(torch.zeros(1, 3, 64, 64))]
    with pytest.raises(ValueError, match=r"feature_cls must be one of 'list', .*'getter', got 'hooks'"):
        zoo.create_model("test_convnext", mlp="kan", features_only=True, feature_cls="hooks")


@each
def test_pretrained_cfg_is_timms_and_names_what_exists(name):
    model = composed(name)
    cfg = model.pretrained_cfg
    known = {f.name for f in fields(PretrainedCfg)}
    assert cfg.keys() <= known
    assert PretrainedCfg(**cfg).architecture == "zoo_composite"
    assert model.default_cfg is cfg
    state = model.state_dict()
    for key in ("classifier", "first_conv"):
        for path in [cfg[key]] if isinstance(cfg[key], str) else cfg[key]:
            assert any(n.startswith(f"{path}.") for n in state), (key, path)
    resolved = timm.data.resolve_model_data_config(model)
    assert resolved == timm.data.resolve_model_data_config(plain(name))


@each
def test_other_channels(name):
    model = zoo.create_model(**spec_of(name), in_chans=1).eval()
    assert model.in_chans == model.zoo_spec["in_chans"] == 1
    size = zoo.data_config(model)["input_size"]
    assert size[0] == 1
    first = model.pretrained_cfg["first_conv"]
    assert model.get_submodule(first).weight.shape[1] == 1
    with torch.no_grad():
        x = torch.randn(2, *size)
        assert not torch.equal(model(x), model(-x))


@pytest.mark.filterwarnings("ignore::UserWarning:timm.*")  # timm's own, as it resizes position biases
@pytest.mark.parametrize("name", ["vit mlp and pool", "vit mixer on maps", "swin mlp", "every part"])
def test_another_image_size(name):
    options = spec_of(name)
    size = {"swin mlp": 112}.get(name, 128)
    model = zoo.create_model(**{**options, "img_size": size}).eval()
    assert model(torch.randn(1, 3, size, size)).shape == (1, 5)
    assert zoo.data_config(model)["input_size"] == (3, size, size)
    assert model.zoo_spec["img_size"] == size
    small = composed(name)
    small.set_input_size(img_size=(size, size))
    assert small(torch.randn(1, 3, size, size)).shape == (1, 5)


@each
def test_made_in_another_type(name):
    model = zoo.create_model(**spec_of(name), dtype=torch.bfloat16).eval()
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    with torch.no_grad():
        out = model(images(model).bfloat16())
    assert out.dtype == torch.bfloat16
    assert out.isfinite().all()


@each
def test_made_without_memory(name):
    model = zoo.create_model(**spec_of(name), device="meta")
    assert all(t.is_meta for t in [*model.parameters(), *model.buffers()])
    real = composed(name)
    assert {n: t.shape for n, t in model.state_dict().items()} == {n: t.shape for n, t in real.state_dict().items()}
    with torch.device("meta"):
        also = zoo.create_model(**spec_of(name))
    assert also.state_dict().keys() == model.state_dict().keys()


def test_the_number_of_parameters_is_the_backbones_and_the_difference():
    model = composed("every part")
    base = plain("every part")
    count = sum(p.numel() for p in model.parameters())
    assert count == sum(p.numel() for p in base.parameters())  # plain parts of the same sizes
    kan, before = composed("vit mlp and pool"), sum(p.numel() for p in plain("vit mlp and pool").parameters())
    changes = kan.zoo_composition.changes
    assert sum(p.numel() for p in kan.parameters()) == before + sum(c.new_params - c.old_params for c in changes)


@pytest.mark.parametrize("imports", ["import zoo, timm", "import timm, zoo"])
def test_timm_has_the_compositions_whichever_is_imported_first(imports):
    code = f"""
{imports}
import torch
import timm.data
model = timm.create_model("resnet18_kan_head", num_classes=3).eval()
print(type(model).__name__, model.zoo_spec["head"], model(torch.zeros(1, 3, 64, 64)).shape[1])
print(timm.list_models("resnet18_kan_h*"), timm.is_model("zoo_composite"), "vit_tiny_kan_avg" in timm.list_models())
print(timm.data.resolve_model_data_config(model)["input_size"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "ResNet {'type': 'kan'} 3",
        "['resnet18_kan_head'] True True",
        "(3, 224, 224)",
    ]
