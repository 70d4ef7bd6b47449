"""Images for the QNN of Farhi and Neven: bits, two classes, training, prediction, export, what is refused."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import zoo
from tests.layers.answers import answers
from zoo.models.farhi_neven import QNNImageClassifier
from zoo.training.data.fashion_mnist import INSTALLED
from zoo.training.data.source import open_split, open_splits

NAMES = ["qnn_farhi_neven_17q", "qnn_farhi_neven_785q", "qnn_tfq_mnist_17q"]


@pytest.mark.parametrize("name", NAMES)
def test_registered(name):
    entry, model = zoo.registry.model_entry(name), zoo.create_model(name)
    assert sum(p.numel() for p in model.parameters()) == entry.params
    assert zoo.data_config(model)["input_size"] == tuple(entry.cfg["input_size"])
    assert model.num_features + 1 == int(name.rpartition("_")[2].removesuffix("q"))
    y = model(torch.rand(5, 1, 28, 28))
    assert y.shape == (5,)
    assert y.detach().abs().max() <= 1
    for batch in (0, 1):
        assert model(torch.rand(batch, 1, 28, 28)).shape == (batch,)


def test_bits_are_means_of_pixels_above_the_threshold():
    model = zoo.create_model("qnn_farhi_neven_17q", threshold=0.4)
    images = torch.rand(6, 1, 28, 28)
    means = images.reshape(6, 4, 7, 4, 7).mean((2, 4)).flatten(1)
    assert torch.equal(model.bits(images), (means > 0.4).long())
    torch.testing.assert_close(model(images), model((means > 0.4).float()))
    # Between pixels, as the tutorial does it: the middle of a bit lies on the middle pixel of its seven.
    tutorial = zoo.create_model("qnn_tfq_mnist_17q")
    assert torch.equal(tutorial.bits(images), (images[:, 0, 3::7, 3::7] > 0.5).flatten(1).long())
    whole = zoo.create_model("qnn_farhi_neven_785q")
    assert torch.equal(whole.bits(images), (images > 0.3).flatten(1).long())


def test_logits_are_the_chances_of_the_readout():
    model = zoo.create_model("qnn_farhi_neven_17q")
    y = torch.tensor([-1.0, -0.5, 0.0, 1.0])
    chances = model.as_logits(y).softmax(1)
    torch.testing.assert_close(chances[:, 1], (1 + y) / 2)
    assert model.as_logits(y).isfinite().all()
    assert model.loss(y, torch.tensor([0, 0, 1, 0])).item() == pytest.approx((0 + 0.5 + 1 + 2) / 4)


def test_saved_and_loaded_with_other_options(tmp_path):
    options = {"side": 3, "threshold": 0.2, "network": {"layers": ["ZX", "XZ"], "init": [-1.0, 1.0], "loss": "hinge"}}
    model = zoo.create_model("qnn_farhi_neven_17q", **options).eval()
    zoo.set_data_config(model, label_names=["cat", "dog"])
    zoo.save_pretrained(model, tmp_path)
    again = zoo.create_model(f"local-dir:{tmp_path}").eval()
    images = torch.rand(4, 1, 28, 28)
    assert torch.equal(again(images), model(images))
    assert (again.qnn.layers, again.qnn.loss_kind, again.threshold) == (("ZX", "XZ"), "hinge", 0.2)
    assert list(again.pretrained_cfg["label_names"]) == ["cat", "dog"]


def test_learns_threes_and_sixes_and_is_reported_predicted_and_exported(tmp_path):
    model = zoo.create_model("qnn_farhi_neven_17q")
    options = {"epochs": 5, "lr": 0.02, "batch_size": 16, "weight_decay": 0.0, "warmup_epochs": 0, "progress": False}
    result = zoo.finetune(model, "digits?classes=3,6", out=tmp_path / "run", aug="none", hflip=0.0, seed=0, **options)
    assert result.metrics["accuracy"] >= 0.9
    assert result.classes == ["3", "6"]
    images, labels = zip(*open_split("digits?classes=3,6", "test").images, strict=True)
    found = zoo.predict(result.model, list(images))
    right = np.mean([one["label"] == "36"[label] for one, label in zip(found, labels, strict=True)])
    assert right == pytest.approx(result.metrics["accuracy"])
    page = zoo.report(tmp_path / "run")
    assert "3" in page.read_text()
    done = zoo.export(result.model, tmp_path / "model.pt2")
    assert done.error < 1e-5


def test_the_loss_is_the_model_s_own_without_weights_of_classes_and_the_like(tmp_path, capsys):
    torch.manual_seed(0)
    model = zoo.create_model("qnn_farhi_neven_17q", network={"init": [-0.5, 0.5]})
    images, labels = zip(*zoo.training.open_data("digits?classes=3,6", "train", model=model), strict=True)
    with torch.no_grad():
        y, target = model(torch.stack(images)), torch.tensor(labels)
    still = {"epochs": 1, "lr": 1e-12, "weight_decay": 0.0, "aug": "none", "hflip": 0.0, "warmup_epochs": 0}
    linear = zoo.finetune(model, "digits?classes=3,6", out=tmp_path / "own", **still)
    assert linear.history[0]["train_loss"] == pytest.approx(float(model.loss(y, target)), abs=1e-5)
    assert "model's own loss" not in capsys.readouterr().err
    weighed = zoo.finetune(model, "digits?classes=3,6", out=tmp_path / "weighed", class_weights=[1.0, 1.0], **still)
    entropy = torch.nn.functional.cross_entropy(model.as_logits(y), target)
    assert weighed.history[0]["train_loss"] == pytest.approx(float(entropy), abs=1e-5)
    assert "cross-entropy in place of the model's own loss" in capsys.readouterr().err


_TRACED = """
import warnings; warnings.simplefilter("ignore")
import torch, zoo
images = torch.rand(3, 1, 28, 28)
for name in {names}:
    model = zoo.create_model(name).eval()
    torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="aot_eager")(images), model(images))
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(model, (images,), dynamic_shapes=({{0: batch}},)).module()
    torch.testing.assert_close(program(images[:2]), model(images[:2]))
"""


def test_compiled_and_exported():
    """In a process of its own: compilers read the functions, not the run-time checks around them."""
    done = subprocess.run(
        [sys.executable, "-c", _TRACED.format(names=NAMES)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_from_the_meta_device():
    torch.manual_seed(0)
    with torch.device("meta"):
        model = QNNImageClassifier()
    model.to_empty(device="cpu")
    model.init_weights()
    torch.manual_seed(0)
    plain = QNNImageClassifier()
    torch.manual_seed(0)
    plain.init_weights()
    torch.manual_seed(0)
    model.init_weights()
    images = torch.rand(2, 1, 28, 28)
    assert torch.equal(model(images), plain(images))


CASES = {
    "zoo.create_model('qnn_farhi_neven_17q', num_classes=10)": ["two classes", "num_classes=10", "digits?classes=3,6"],
    "zoo.create_model('qnn_farhi_neven_17q', in_chans=3)": ["in_chans must be 1, got 3"],
    "zoo.create_model('qnn_farhi_neven_17q', threshold=1.0)": ["threshold", "1.0"],
    "zoo.create_model('qnn_farhi_neven_17q', resize='bicubic')": ["'area', 'bilinear'", "'bicubic'"],
    "zoo.create_model('qnn_farhi_neven_17q', side=0)": ["side must be an int ≥ 1, got 0"],
    "zoo.create_model('qnn_farhi_neven_17q', network={'layers': ['XX', 'ZZ']})": ["same prediction for every input"],
    "zoo.finetune('qnn_farhi_neven_17q', 'digits')": ["two classes", "num_classes=10"],
    "model(torch.zeros(2, 3, 28, 28))": ["expected images (batch, 1, height, width), got (2, 3, 28, 28)"],
    "zoo.create_model('qnn_farhi_neven_17q', threshold='x')": ["ValueError", "threshold must be a number", "'x'"],
    "zoo.create_model('qnn_farhi_neven_17q', network='x')": ["TypeError", "dictionary of options of QNN (layers"],
    "zoo.create_model('qnn_farhi_neven_17q', network={'layer': ['ZX']})": ["TypeError", "did you mean 'layers'?"],
    "zoo.create_model('qnn_farhi_neven_17q', network={'dtype': None})": ["takes no argument 'dtype'", "angle_scale"],
    "zoo.create_model('qnn_farhi_neven_17q', features_only=True)": ["no stages, so features_only=True is not for it"],
    "model(torch.zeros(2, 15))": ["expected images (batch, 1, height, width) or bits (batch, 16), got (2, 15)"],
    "model(torch.zeros(1, 28, 28))": ["height, width) or bits", "got (1, 28, 28); add the batch with x[None]"],
    "model([[0] * 16])": ["TypeError", "bits must be a tensor (batch, 16), got list"],
    "model(torch.full((2, 1, 28, 28), float('nan')))": ["image 0 has NaN"],
    "model(torch.full((2, 1, 28, 28), 255.0))": ["image 0 has a pixel of 255, the threshold is for pixels from 0 to 1"],
    "model(torch.zeros(2, 1, 28, 28, dtype=torch.uint8))": ["TypeError", "floating point", "uint8", "/ 255"],
    "model(torch.full((2, 16), 0.5))": ["bits must be 0 and 1, got 0.5"],
}


def test_refused():
    found = answers(CASES, "import zoo\nmodel = zoo.create_model('qnn_farhi_neven_17q')")
    for case, parts in CASES.items():
        for part in parts:
            assert part in found[case], case
    assert "num_classes=0" not in found["zoo.create_model('qnn_farhi_neven_17q', features_only=True)"]


@pytest.mark.slow
@pytest.mark.skipif(not INSTALLED.is_dir(), reason="the Debian package dataset-fashion-mnist is missing")
@pytest.mark.parametrize(
    ("pair", "least"), [("T-shirt/top,trouser", 0.97), ("sandal,ankle boot", 0.94), ("dress,shirt", 0.88)]
)
def test_pairs_of_garments(pair, least):
    """12,000 training images before the classes are chosen, ten epochs of Adam with 1e-3, 785 qubits."""
    torch.manual_seed(0)
    model = zoo.create_model("qnn_farhi_neven_785q")
    names = pair.split(",")
    splits = open_splits("fashion_mnist")
    chosen = [splits.train.classes.index(name) for name in names]

    def tensors(images, limit=None):
        rows = [i for i in range(limit or len(images)) if images.labels[i] in chosen]
        pixels = torch.tensor(np.stack([images.image(i) for i in rows]))[:, None] / 255
        return model.bits(pixels), torch.tensor([2 * chosen.index(images.labels[i]) - 1 for i in rows])

    training, test = tensors(splits.train, 12_000), tensors(splits.test)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(10):
        for rows in torch.randperm(len(training[0])).split(64):
            optimizer.zero_grad()
            model.loss(model(training[0][rows]), training[1][rows]).backward()
            optimizer.step()
    with torch.no_grad():
        assert model.qnn.accuracy(model(test[0]), test[1]) >= least
