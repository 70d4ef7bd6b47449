"""The example network of the Tversky library: its numbers, its checkpoint, and what can be done to the model."""

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

import zoo
from zoo.layers.tversky import TverskyProjection
from zoo.models.tversky_mnist import TverskyMnistCnn
from zoo.weights.adapt import classifier_names

NAMES = ["tversky_mnist_cnn", "resnet18_tversky_head", "tversky_resnet50_nabirds"]


def small(**options) -> TverskyMnistCnn:
    torch.manual_seed(0)
    return TverskyMnistCnn(**{"num_classes": 5, **options}).eval()


def test_parameters_are_those_of_the_authors_example():
    model = zoo.create_model("tversky_mnist_cnn")
    assert sum(p.numel() for p in model.parameters()) == 10_935
    assert list(model.state_dict())[:2] == ["conv1.weight", "conv1.bias"]
    own = {name.partition(".")[0] for name in model.state_dict()}
    assert own == {"tproj", *(f"conv{i}" for i in range(1, 7))}


@pytest.mark.parametrize("name", NAMES)
def test_catalogue_row_states_the_model_as_built(name):
    entry = zoo.registry.model_entry(name)
    facts = zoo.summary(zoo.create_model(name, device="meta"))
    assert (facts.params, facts.macs, facts.input_size) == (entry.params, entry.macs, tuple(entry.input_size))


def test_head_of_the_birds_has_the_papers_size():
    model = zoo.create_model("tversky_resnet50_nabirds", device="meta")
    head = model.get_classifier()
    assert (head.in_features, head.out_features, head.num_features) == (2048, 555, 224)
    assert sum(p.numel() for p in head.parameters()) == 1_595_395


def test_logits_are_those_of_the_operations_written_out():
    model = small(in_chans=2)
    x = torch.randn(3, 2, 13, 10)
    with torch.no_grad():
        h = x
        for first, second in ((model.conv1, model.conv2), (model.conv3, model.conv4), (model.conv5, model.conv6)):
            h = second(first(h).relu())
            h = h if second is model.conv6 else nn.functional.max_pool2d(h, 2)
        features = h.mean((2, 3))
        a, q = (
            features @ model.tproj.feature_bank.weight.T,
            model.tproj.prototypes.weight @ model.tproj.feature_bank.weight.T,
        )
        terms = a.relu()[:, None] * q.relu() - 0.5 * a.relu()[:, None] * (q <= 0) - 0.5 * (a <= 0)[:, None] * q.relu()
        torch.testing.assert_close(model(x), terms.sum(-1), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model.forward_head(model.forward_features(x), pre_logits=True), features)
        torch.testing.assert_close(torch.cat([model(image[None]) for image in x]), model(x))
        assert model(x[:0]).shape == (0, 5)


def test_its_checkpoint_reaches_what_the_manifest_states():
    row = zoo.registry.weights_entry("tversky_mnist_cnn.digits")
    measured = zoo.evaluate("tversky_mnist_cnn.digits", "digits", split=row.metrics["split"], progress=False)
    assert measured["samples"] == row.metrics["samples"]
    assert round(measured["accuracy"], 4) == row.metrics["accuracy"]
    assert measured["accuracy"] >= 0.97


def test_weights_fit_models_of_other_classes_and_channels():
    trained = zoo.create_model("tversky_mnist_cnn", pretrained=True)
    other = zoo.create_model("tversky_mnist_cnn", pretrained=True, num_classes=3, in_chans=3)
    assert torch.equal(other.conv2.weight, trained.conv2.weight)
    torch.testing.assert_close(other.conv1.weight.sum(1, keepdim=True), trained.conv1.weight)
    assert other.tproj.out_features == 3
    assert other.tproj.theta == 1  # the whole head is new, not its prototypes alone
    assert trained.tproj.theta != 1
    features = zoo.create_model("tversky_mnist_cnn", pretrained=True, num_classes=0).eval()
    x = torch.randn(2, 1, 28, 28)
    torch.testing.assert_close(features(x), trained.eval().forward_head(trained.forward_features(x), pre_logits=True))


@pytest.mark.parametrize(
    ("head", "kind"),
    [("kan", "KANHead"), ("linear", "Linear"), ({"type": "tversky", "num_features": 9}, "TverskyProjection")],
)
def test_its_head_can_be_another_one(head, kind):
    model = zoo.create_model("tversky_mnist_cnn", pretrained=True, head=head, num_classes=4).eval()
    assert type(model.get_classifier()).__name__ == kind
    assert classifier_names(model) == ("tproj",)
    x = torch.randn(2, 1, 28, 28)
    assert model(x).shape == (2, 4)
    model.reset_classifier(6)
    assert type(model.get_classifier()).__name__ == kind
    assert model(x).shape == (2, 6)


def test_only_the_head_learns_when_the_backbone_is_frozen():
    from zoo.training.freeze import frozen_names

    model = zoo.create_model("tversky_mnist_cnn")
    learned = {n for n, _ in model.named_parameters()} - frozen_names(model, "backbone")
    assert learned == {f"tproj.{n}" for n in ("theta", "alpha", "beta", "feature_bank.weight", "prototypes.weight")}


def test_classifier_can_be_replaced_and_removed():
    model, x = small(projection={"num_features": 7, "difference": "substractmatch"}), torch.randn(2, 1, 16, 16)
    features = model.forward_features(x)
    pooled = model.forward_head(features, pre_logits=True)
    torch.testing.assert_close(pooled, features.mean((2, 3)))
    torch.testing.assert_close(model(x), model.tproj(pooled))
    model.reset_classifier(0)
    torch.testing.assert_close(model(x), pooled)
    model.reset_classifier(4, "catavgmax")
    head = model.get_classifier()
    assert isinstance(head, TverskyProjection)
    assert (head.in_features, head.out_features, head.num_features, head.difference) == (72, 4, 7, "substractmatch")
    model.reset_classifier(3)
    assert model.global_pool.pool_type == "catavgmax"
    model.reset_classifier(0, "")
    torch.testing.assert_close(model(x), features)
    model.double().train().reset_classifier(2, "avg")
    assert model.tproj.theta.dtype == torch.float64
    assert model.tproj.training


def test_initial_values_and_meta_device():
    model = zoo.create_model("tversky_mnist_cnn", device="meta").to_empty(device="cpu")
    model.init_weights()
    assert (float(model.tproj.theta.detach()), float(model.tproj.alpha.detach())) == (1.0, 0.5)
    bound = (3 / 36) ** 0.5
    assert 0.9 * bound < float(model.tproj.prototypes.weight.detach().abs().max()) <= bound
    assert all(p.isfinite().all() for p in model.parameters())
    official = small(projection={"init": "uniform"}).tproj.feature_bank.weight
    assert bool((official >= 0).all())


def test_features_of_the_pairs():
    model, x = small(), torch.randn(2, 1, 29, 30)
    final, maps = model.forward_intermediates(x)
    torch.testing.assert_close(final, model.forward_features(x))
    assert [tuple(m.shape[1:]) for m in maps] == [(12, 29, 30), (12, 14, 15), (36, 7, 7)]
    torch.testing.assert_close(maps[-1], final)
    assert torch.equal(model.forward_intermediates(x, [-3], stop_early=True)[0], maps[0])
    extractor = zoo.create_model("tversky_mnist_cnn", features_only=True, out_indices=(0, 2)).eval()
    assert (extractor.feature_info.channels(), extractor.feature_info.reduction()) == ([12, 36], [1, 4])


@pytest.mark.parametrize("cls", ["list", "dict", "hook", "fx", "getter"])
@pytest.mark.filterwarnings("ignore:.*NOTE. The nodes obtained by tracing.*:UserWarning")
def test_every_feature_extractor_of_timm(cls, unchecked):
    model = zoo.create_model("tversky_mnist_cnn", pretrained=True).eval()
    options = {"features_only": True, "feature_cls": cls, "out_indices": (0, 1)}
    extractor = zoo.create_model("tversky_mnist_cnn", pretrained=True, **options).eval()
    x = torch.randn(1, 1, 28, 28)
    out = extractor(x)
    taps = model.forward_intermediates(x, [0, 1], intermediates_only=True)
    torch.testing.assert_close(list(out.values()) if isinstance(out, dict) else out, taps)


def test_pruning_keeps_the_tap():
    model, x = small(), torch.randn(2, 1, 12, 12)
    taps = model.forward_intermediates(x, intermediates_only=True)
    assert model.prune_intermediate_layers([-2]) == [1]
    assert not any(name.startswith(("conv5", "conv6", "tproj")) for name in model.state_dict())
    assert model.num_features == model.head_hidden_size == 12
    torch.testing.assert_close(model(x), taps[1])
    whole = small()
    expected = whole(x)
    assert whole.prune_intermediate_layers(1, prune_head=False) == [2]
    assert torch.equal(whole(x), expected)


def test_checkpointing_changes_no_gradient():
    plain = small().train()
    saving = copy.deepcopy(plain)
    saving.set_grad_checkpointing()
    x = torch.randn(4, 1, 12, 12)
    for model in (plain, saving):
        model(x).square().sum().backward()
    for (name, a), b in zip(plain.named_parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, msg=lambda m, n=name: f"{n}: {m}")
    maps = saving.forward_intermediates(x, [1], intermediates_only=True)
    torch.testing.assert_close(maps, plain.forward_intermediates(x, [1], intermediates_only=True))


def test_parameter_groups_and_weight_decay():
    from timm.models._manipulate import group_parameters

    model = small()
    assert model.no_weight_decay() == {"tproj.theta", "tproj.alpha", "tproj.beta"}
    fine = group_parameters(model, model.group_matcher(), reverse=True)
    assert [fine[f"conv{i}.weight"] for i in range(1, 7)] == list(range(6))
    assert fine["tproj.prototypes.weight"] == fine["tproj.theta"] == 6
    coarse = group_parameters(model, model.group_matcher(coarse=True), reverse=True)
    assert [coarse[f"conv{i}.weight"] for i in range(1, 7)] == [0, 0, 1, 1, 2, 2]


_SCRIPT = """
import warnings; warnings.simplefilter("ignore")
import torch, zoo
model = zoo.create_model("tversky_mnist_cnn", pretrained=True).eval()
x = torch.randn(3, 1, 28, 28)
want = model(x)
close = lambda y: torch.testing.assert_close(y, want, rtol=1e-4, atol=1e-4)
close(torch.jit.script(model)(x))
close(torch.export.export(model, (x,), dynamic_shapes={"x": {0: torch.export.Dim("b", min=1)}}).module()(x))
close(torch.compile(model, fullgraph=True)(x))
"""


def test_scripted_exported_and_compiled():
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def call(shape, dtype=torch.float32, **options):
    return small(**options)(torch.zeros(shape, dtype=dtype))


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (lambda: small(dims=(12, 12)), ["dims", "three", "(12, 12)"]),
        (lambda: small(dims=(12, 0, 36)), ["dims", "at least 1", "(12, 0, 36)"]),
        (lambda: small(in_chans=0), ["in_chans", "≥ 1", "0"]),
        (lambda: small(num_classes=-1), ["num_classes", "≥ 0", "-1"]),
        (lambda: small(global_pool="mean"), ["global_pool", "'mean'", "'avg'"]),
        (lambda: small(img_size=3), ["3×3", "too small", "4"]),
        (lambda: small(projection={"intersection": "minn"}), ["intersection", "'minn'", "did you mean 'min'"]),
        (lambda: call((1, 28, 28)), ["(batch, 1, height, width)", "(1, 28, 28)", "x[None]"]),
        (lambda: call((1, 3, 28, 28)), ["(batch, 1, height, width)", "(1, 3, 28, 28)", "in_chans"]),
        (lambda: call((1, 1, 28, 3)), ["28×3", "too small", "4"]),
        (lambda: call((1, 1, 8, 8), global_pool=""), ["global_pool=''", "reset_classifier"]),
        (lambda: small().forward_intermediates(torch.zeros(1, 1, 8, 8), 4), ["between 1 and 3", "4"]),
        (lambda: small().forward_intermediates(torch.zeros(1, 1, 8, 8), [3]), ["-3", "2", "[3]"]),
        (lambda: small().forward_intermediates(torch.zeros(1, 1, 8, 8), output_fmt="NLC"), ["'NCHW'", "'NLC'"]),
    ],
)
def test_refused(action, words, unchecked):
    with pytest.raises(ValueError, match=r"\w") as caught:
        action()
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_integer_images(unchecked):
    with pytest.raises(TypeError, match=r"floating point.*torch\.uint8"):
        call((1, 1, 28, 28), dtype=torch.uint8)


def test_smallest_image():
    assert call((1, 1, 4, 4)).shape == (1, 5)
