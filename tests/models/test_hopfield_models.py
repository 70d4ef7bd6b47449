"""Classifiers of bags: what instances and masks do to them, the authors' numbers, and what is saved of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file

import zoo
from zoo.models.deeprc import deeprc_cnn
from zoo.models.hopfield_bags import hopfield_bit_pattern, hopfield_mil, hopfield_mnist_bags

GOLDEN = Path(__file__).parents[1] / "golden/hopfield/models/deeprc_forward.safetensors"
MODELS = {
    "hopfield_mil": lambda **options: hopfield_mil(3, dim=6, embed_dim=8, num_heads=2, head_dim=4, **options),
    "hopfield_mnist_bags": hopfield_mnist_bags,
    "hopfield_bit_pattern": hopfield_bit_pattern,
}


def ready(name, **options):
    torch.manual_seed(0)
    return MODELS[name](**options).double().eval()


def bag_of(model, *lead):
    return torch.randn(*lead, *model.instance_shape, generator=torch.Generator().manual_seed(1)).double()


@pytest.mark.parametrize("name", ["hopfield_mil", "hopfield_mnist_bags", "hopfield_bit_pattern", "deeprc_cnn"])
def test_parameters_as_listed(name):
    model = zoo.create_model(name)
    assert sum(p.numel() for p in model.parameters()) == zoo.registry.model_entry(name).params


@pytest.mark.parametrize("name", MODELS)
def test_padded_ragged_and_alone_are_the_same(name):
    """What lies in padding is of no account, nor is the order of the instances."""
    model = ready(name)
    x = bag_of(model, 2, 4)
    mask = torch.tensor([[False] * 4, [False, False, True, True]])
    wanted = torch.cat([model(x[:1]), model(x[1:, :2])])
    assert not torch.allclose(wanted[0], wanted[1])
    torch.testing.assert_close(model(x, mask), wanted)
    torch.testing.assert_close(model(torch.cat([x[0], x[1, :2]]), offsets=[0, 4, 6]), wanted)
    torch.testing.assert_close(model(x.flip(1), mask.flip(1)), wanted)


@pytest.mark.parametrize("name", MODELS)
def test_association_says_what_the_pooling_took(name):
    model = ready(name)
    x = bag_of(model, 2, 4)
    mask = torch.tensor([[False] * 4, [False, False, True, True]])
    found = model.association(x, mask)
    assert found.shape == (2, model.pool.hopfield.num_heads, 1, 4)
    torch.testing.assert_close(found.sum(-1), torch.ones_like(found[..., 0]))
    assert not found[1, ..., 2:].any()
    # An instance that is taken alone is the whole bag.
    torch.testing.assert_close(model.association(x[:, :1]), torch.ones_like(found[..., :1]))


def test_an_instance_in_a_thousand_decides():
    """Trained on one planted instance in a bag, the association finds it."""
    torch.manual_seed(0)
    model = hopfield_mil(2, dim=4, embed_dim=16, num_heads=1, head_dim=8, beta=1.0)
    x = torch.randn(64, 20, 4) * 0.3
    labels = torch.arange(64) % 2
    x[labels == 1, 3] += torch.tensor([2.0, -2.0, 2.0, 0.0])
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(150):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(x), labels).backward()
        optimiser.step()
    model.eval()
    assert (model(x).argmax(1) == labels).float().mean() > 0.98
    assert (model.association(x)[labels == 1, 0, 0].argmax(-1) == 3).all()


@pytest.mark.parametrize("name", MODELS)
def test_classifier_is_replaced_and_all_is_drawn_anew(name):
    model = ready(name)
    x = bag_of(model, 2, 3)
    features = model.forward_features(x)
    model.reset_classifier(5)
    assert (model.num_classes, model(x).shape) == (5, (2, 5))
    model.reset_classifier(0)
    torch.testing.assert_close(model(x), model.forward_head(features, pre_logits=True))
    model = MODELS[name](device="meta").to_empty(device="cpu")
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.detach().fill_(torch.nan)
    model.init_weights()
    assert all(tensor.isfinite().all() for tensor in (*model.parameters(), *model.buffers()))


def test_refused():
    model = ready("hopfield_mil")
    with pytest.raises(ValueError, match=r"expected instances \(bags, instances, 6\), got \(3, 6\)"):
        model(bag_of(model, 3))
    with pytest.raises(ValueError, match=r"expected instances \(rows, 6\) with offsets, got \(1, 3, 6\)"):
        model(bag_of(model, 1, 3), offsets=[0, 3])
    with pytest.raises(ValueError, match="embed_layers"):
        hopfield_mil(embed_layers=0)
    with pytest.raises(ValueError, match="num_classes must be an int ≥ 0, got -1"):
        model.reset_classifier(-1)
    with pytest.raises(ValueError, match=r"keep must be above 0 and at most 1, got 0\.0"):
        deeprc_cnn(keep=0.0)


@pytest.mark.parametrize("name", ["hopfield_mil", "hopfield_bit_pattern", "hopfield_mnist_bags", "deeprc_cnn"])
def test_saved_and_loaded(name, tmp_path):
    options = {"dim": 6, "embed_layers": 2, "pooling": {"association": "sparsemax"}} if name == "hopfield_mil" else {}
    model = zoo.create_model(name, num_classes=3, **options).eval()
    zoo.set_data_config(model, label_names=["none", "some", "all"])
    zoo.save_pretrained(model, tmp_path / "model")
    again = zoo.create_model(f"local-dir:{tmp_path / 'model'}").eval()
    x = sequences(2, 12) if name == "deeprc_cnn" else torch.rand(2, 3, *model.instance_shape)
    assert torch.equal(model(x), again(x))
    assert again.pretrained_cfg["label_names"] == ("none", "some", "all")
    zoo.save_pretrained(again, tmp_path / "again")


def test_images_in_bags_are_prepared_as_the_configuration_says(tmp_path):
    """By the catalogue, or as it was recorded before saving; names of other classes are left out."""
    model = zoo.create_model("hopfield_mnist_bags", num_classes=3).eval()
    kept = {key: zoo.data_config(model)[key] for key in ("mean", "std", "crop_pct", "interpolation")}
    assert kept == {"mean": (0.5,), "std": (0.5,), "crop_pct": 1.0, "interpolation": "bilinear"}
    assert "label_names" not in model.pretrained_cfg  # of the checkpoint, which has two
    zoo.set_data_config(model, mean=0.25, interpolation="nearest")
    zoo.save_pretrained(model, tmp_path / "model")
    again = zoo.data_config(zoo.create_model(f"local-dir:{tmp_path / 'model'}"))
    assert (again["mean"], again["std"], again["interpolation"]) == ((0.25,), (0.5,), "nearest")


_SCRIPT = """
import torch
from zoo.models.deeprc import deeprc_cnn
from zoo.models.hopfield_bags import hopfield_mil
torch.manual_seed(0)
mask = torch.tensor([[False] * 5, [False, False, False, True, True]])
mil = hopfield_mil(dim=6, num_updates=2, pooling={"tol": None})
repertoire = deeprc_cnn(keep=0.5)
for model, x in ((mil, torch.randn(2, 5, 6)), (repertoire, torch.randint(0, 20, (2, 5, 12)))):
    model.eval()
    wanted = model(x, mask)
    torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="aot_eager")(x, mask), wanted)
    torch.testing.assert_close(torch.export.export(model, (x, mask)).module()(x, mask), wanted)
"""


def test_compiled_and_exported():
    """In a process of its own: without the run-time checks around the calls."""
    subprocess.run([sys.executable, "-c", _SCRIPT], check=True, timeout=600)


def sequences(bags, instances, longest=14):
    draw = torch.Generator().manual_seed(2)
    x = torch.randint(0, 20, (bags, instances, longest), generator=draw)
    length = torch.randint(9, longest + 1, (bags, instances, 1), generator=draw)
    return x.where(torch.arange(longest) < length, -1)


def test_deeprc_is_the_authors():
    golden = load_file(GOLDEN)
    names = {"sequence_embedding.network.0": "conv", "output_nn.output_nn.0": "head"}
    names |= {f"attention_nn.attention_nn.{i}": f"attention.{i}" for i in (0, 2, 4)}
    official = {k.removeprefix("state."): v for k, v in golden.items() if k.startswith("state.")}
    model = deeprc_cnn(num_kernels=8, kernel_size=5, attention_dims=(6, 6), keep=0.5, official=True).eval()
    model.load_state_dict({f"{names[k.rpartition('.')[0]]}.{k.rpartition('.')[2]}": v for k, v in official.items()})
    bags = [golden[f"in.bag{i}.indices"].long() for i in range(2)]
    counts = [golden[f"in.bag{i}.log_counts"].exp().round().long() for i in range(2)]
    mask = torch.arange(16) >= torch.tensor([[len(bag)] for bag in bags])
    x = torch.nn.utils.rnn.pad_sequence(bags, batch_first=True, padding_value=-1)
    seen = torch.nn.utils.rnn.pad_sequence(counts, batch_first=True, padding_value=1)
    torch.testing.assert_close(model(x, mask, seen), golden["out.prediction"], rtol=1e-4, atol=1e-5)
    weights = model.association(x, mask, seen)[:, 0, 0]
    kept = golden["out.n_sequences"].tolist()
    assert (weights > 0).sum(1).tolist() == kept
    for found, logits in zip(weights, golden["out.attention_logits"].split(kept), strict=True):
        wanted = logits[:, 0].softmax(0)
        torch.testing.assert_close(found.sort(descending=True).values[: len(wanted)], wanted, rtol=1e-4, atol=1e-5)


def test_deeprc_does_not_see_padding():
    """Neither behind a sequence nor behind a bag; and however few sequences there are, one is kept."""
    torch.manual_seed(0)
    model = deeprc_cnn(keep=0.4).double().eval()
    x = sequences(2, 6)
    longer = torch.nn.functional.pad(x, (0, 5), value=-1)
    torch.testing.assert_close(model(longer), model(x))
    more = torch.cat([x, sequences(2, 4).flip(0)], 1)
    mask = (torch.arange(10) >= 6).expand(2, -1)
    torch.testing.assert_close(model(more, mask), model(x))
    assert (model.association(more, mask) > 0).sum(-1).flatten().tolist() == [2, 2]
    assert (model.association(x[:, :1]) == 1).all()
    counts = torch.ones(2, 6, dtype=torch.long)
    torch.testing.assert_close(model(x, counts=counts), model(x))
    assert not torch.allclose(model(x, counts=counts * 9), model(x))
    short = model(x[:, :, :4])
    assert short.isfinite().all()


def test_deeprc_of_a_bag_without_sequences_answers_its_bias():
    model = deeprc_cnn().eval()
    mask = torch.ones(1, 6, dtype=torch.bool)
    torch.nn.init.constant_(model.head.bias, 0.25)
    assert model(sequences(1, 6), mask).item() == 0.25


def test_deeprc_learns_through_those_it_keeps():
    torch.manual_seed(0)
    model = deeprc_cnn(keep=0.5).double()
    x = sequences(2, 8)
    model(x).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert model.conv.weight.grad.any()
    one, two = deeprc_cnn(), deeprc_cnn()
    assert not set(map(id, one.parameters())) & set(map(id, two.parameters()))


def test_a_checkpoint_decides_how_many_classes_there_are():
    assert zoo.create_model("hopfield_mnist_bags").num_classes == 1
    ours = zoo.create_model("hopfield_mnist_bags", pretrained=True)
    theirs = timm.create_model("hopfield_mnist_bags", pretrained=True)
    assert ours.num_classes == theirs.num_classes == 2
    wanted = theirs.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in ours.state_dict().items())
    fewer = timm.create_model("hopfield_mnist_bags", pretrained=True, num_classes=5)
    assert fewer.get_classifier().out_features == 5
    assert torch.equal(fewer.state_dict()["embed.0.weight"], wanted["embed.0.weight"])
