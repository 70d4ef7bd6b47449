"""Models as ONNX and torch.export files. In fresh processes: the session's annotation checks stop the exporters."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import zoo
from zoo.errors import ExportError
from zoo.exporting import export

CODE = """
import json, sys, warnings
warnings.simplefilter("ignore")
import numpy as np, onnx, onnxruntime, torch
import zoo

folder = sys.argv[1]
model = zoo.create_model("medvit2_kan_nano.digits", pretrained=True)
torch.manual_seed(3)
x = torch.randn(5, 3, 32, 32)
with torch.no_grad():
    wanted = model.eval()(x)
model.train()
before = {k: v.clone() for k, v in model.state_dict().items()}

done = zoo.export(model, f"{folder}/model.onnx", opset=18)
session = onnxruntime.InferenceSession(f"{folder}/model.onnx", providers=["CPUExecutionProvider"])
(got,) = session.run(["logits"], {"image": x.numpy()})
np.testing.assert_allclose(got, wanted.numpy(), atol=1e-4, rtol=1e-4)
proto = onnx.load(f"{folder}/model.onnx")
assert [o.version for o in proto.opset_import if not o.domain] == [18] == [done.opset]
facts = json.loads({p.key: p.value for p in proto.metadata_props}["zoo"])
assert facts["label_names"] == [str(i) for i in range(10)], facts
assert facts["input_size"] == [3, 32, 32] and facts["mean"] == list(zoo.data_config(model)["mean"])
assert 0 <= done.error < 1e-4 and done.batch is None

done = zoo.export(model, f"{folder}/model.pt2", batch=5)
extra = {"zoo.json": ""}
program = torch.export.load(f"{folder}/model.pt2", extra_files=extra).module()
torch.testing.assert_close(program(x), wanted, atol=1e-5, rtol=1e-5)
assert json.loads(extra["zoo.json"])["architecture"] == "medvit2_kan_nano"
assert done.batch == 5 and done.size == len(open(f"{folder}/model.pt2", "rb").read())
# The model is as it was.
assert model.training and all(torch.equal(v, before[k]) for k, v in model.state_dict().items())

composed = zoo.create_model("test_vit", mlp="kan", pool="avg", head="kan", num_classes=3)
assert zoo.export(composed, f"{folder}/composed.onnx").error < 1e-3
"""


def test_files_compute_what_the_model_does(tmp_path):
    done = subprocess.run([sys.executable, "-c", CODE, str(tmp_path)], capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["composed.onnx", "model.onnx", "model.pt2"]


REFUSED = """
import sys, warnings
warnings.simplefilter("ignore")
import torch
import zoo

class Branching(torch.nn.Module):
    num_classes, in_chans, pretrained_cfg = 2, 3, {"input_size": (3, 8, 8)}
    def forward(self, x):
        return x.mean((2, 3)) if float(x.sum()) > 0 else x.amax((2, 3))

class Noisy(torch.nn.Module):
    num_classes, in_chans, pretrained_cfg = 2, 3, {"input_size": (3, 8, 8)}
    def forward(self, x):
        return x.mean((2, 3)) + torch.randn_like(x[:, :, 0, 0])

try:
    zoo.export(Branching(), sys.argv[1])
except zoo.errors.ExportError as error:
    print(error)
try:
    zoo.export(Noisy(), sys.argv[1])
except zoo.errors.ExportError as error:
    print(error)
"""


BAGS = """
import json, sys, warnings
warnings.simplefilter("ignore")
import numpy as np, onnxruntime, torch
import zoo

folder = sys.argv[1]
model = zoo.create_model("hopfield_mil", dim=6, embed_dim=16, num_heads=2, head_dim=8, num_classes=3).eval()
zoo.set_data_config(model, mean=[1.0] * 6, std=[2.0] * 6)
done = zoo.export(model, f"{folder}/bags.onnx")
assert done.inputs == ("instances", "padding_mask") and done.input_size == (6,) and done.error < 1e-4
session = onnxruntime.InferenceSession(f"{folder}/bags.onnx", providers=["CPUExecutionProvider"])
facts = json.loads(session.get_modelmeta().custom_metadata_map["zoo"])
assert facts["input_size"] == [6] and facts["mean"] == [1.0] * 6 and facts["std"] == [2.0] * 6
torch.manual_seed(0)
for bags, instances in ((1, 1), (4, 9), (2, 1)):
    x = torch.randn(bags, instances, 6)
    mask = torch.rand(bags, instances) > 0.5
    mask[:, 0] = False
    (got,) = session.run(["logits"], {"instances": x.numpy(), "padding_mask": mask.numpy()})
    for k in range(bags):  # what is padded has no part in the answer
        alone = model(x[k][~mask[k]][None]).detach().numpy()
        np.testing.assert_allclose(got[k : k + 1], alone, atol=1e-5, rtol=1e-4)

images = zoo.create_model("hopfield_mnist_bags.fashion", pretrained=True)
done = zoo.export(images, f"{folder}/images.pt2", batch=2)
assert done.input_size == (1, 28, 28) and done.batch == 2 and done.error < 1e-5

# Its updates stop where nothing changes; the file makes all of them, and the model is left as it was.
bits = zoo.create_model("hopfield_bit_pattern")
assert zoo.export(bits, f"{folder}/bits.pt2").error < 1e-3
assert bits.pool.hopfield.tol is not None

for refused in (
    zoo.create_model("deeprc_cnn"),
    zoo.create_model("hopfield_mil", dim=6, pooling={"num_updates": None}),
):
    try:
        zoo.export(refused, f"{folder}/refused.pt2")
    except zoo.errors.ExportError as error:
        print(error)
"""


ENLARGED = """
import json, sys, warnings
import numpy as np, onnxruntime, torch
import zoo

folder = sys.argv[1]
small = dict(backbone={"name": "srresnet", "nf": 8, "nb": 1}, upsamplers=[[4], [8, 8]], classifier=[])
model = zoo.create_model("pcsr", scale=4, mean=[0.4, 0.5, 0.6], **small).eval()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    done = zoo.export(model, f"{folder}/any.onnx")
    assert zoo.export(zoo.create_model("fsrcnn_x4"), f"{folder}/plain.pt2", batch=1).input_size == (3, None, None)
assert not [w for w in caught if "images must be" in str(w.message) or "learnt to enlarge" in str(w.message)]
assert (done.inputs, done.output, done.input_size) == (("image",), "enlarged", (3, None, None)) and done.error < 1e-4
session = onnxruntime.InferenceSession(f"{folder}/any.onnx", providers=["CPUExecutionProvider"])
for shape in ((1, 3, 9, 20), (2, 3, 30, 1)):
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    (got,) = session.run(["enlarged"], {"image": x.numpy()})
    np.testing.assert_allclose(got, model(x).detach().numpy(), atol=1e-5)
facts = json.loads(session.get_modelmeta().custom_metadata_map["zoo"])
assert facts.pop("zoo") == zoo.__version__
assert facts == {"architecture": "pcsr", "input_size": [3, None, None], "input_range": [0, 1], "scale": 4,
                 "task": "super-resolution"}, facts
try:
    zoo.export(zoo.create_model("pcsr", **small), f"{folder}/none.pt2")
except zoo.errors.ExportError as error:
    print(error)

class Tall(torch.nn.Conv2d):  # whose height the exporter cannot leave open
    def forward(self, x):
        return super().forward(x) + torch.ones(int(x.shape[2]), 1)

for backbone, scale in ((torch.nn.Conv2d, 4.0), (Tall, 4), (torch.nn.Conv2d, 2.5)):
    fixed = zoo.PCSR(backbone(3, 8, 3, padding=1), [[4], [8, 8]], [], scale=scale)
    print(zoo.export(fixed, f"{folder}/fixed.pt2").input_size)

twice = zoo.create_model("varifocal_chromosome_nano.rendered", pretrained=True).eval()
zoo.export(twice, f"{folder}/twice.pt2", batch=1)
extra = {"zoo.json": ""}
program = torch.export.load(f"{folder}/twice.pt2", extra_files=extra).module()
facts = json.loads(extra["zoo.json"])
assert (facts["temperature"], facts["temperature_applied"]) == (twice.temperature[0], False)
assert facts["temperature"] != 1
x = torch.randn(1, *facts["input_size"])
found = twice.log_probabilities(twice(x))[0]
torch.testing.assert_close((program(x) / facts["temperature"]).log_softmax(1), found, atol=1e-4, rtol=1e-4)
"""


TABLES = """
import json, sys, warnings
warnings.simplefilter("ignore")
import numpy as np, onnx, onnxruntime, torch
import zoo

folder = sys.argv[1]
model = zoo.create_model("kan_breast_cancer", pretrained=True).eval()
x = model.scaling.back(torch.randn(5, 30, generator=torch.Generator().manual_seed(0)))
done = zoo.export(model, f"{folder}/table.onnx")
assert (done.inputs, done.input_size) == (("rows",), (30,))
session = onnxruntime.InferenceSession(f"{folder}/table.onnx", providers=["CPUExecutionProvider"])
(got,) = session.run(["logits"], {"rows": x.numpy()})
np.testing.assert_allclose(got, model(x).detach().numpy(), atol=1e-4, rtol=1e-4)
facts = json.loads({p.key: p.value for p in onnx.load(f"{folder}/table.onnx").metadata_props}["zoo"])
assert facts["label_names"] == ["malignant", "benign"] and facts["feature_names"][:1] == ["mean radius"]
assert facts["input_size"] == [30] and "interpolation" not in facts

torch.manual_seed(0)
regression = zoo.create_model("kan_tabular", task="regression", num_classes=2, in_features=3).eval()
rows = torch.randn(40, 3) * 50 + 300
regression.fit_scaling(rows, rows[:, :2] * 10)
zoo.export(regression, f"{folder}/targets.pt2")
program = torch.export.load(f"{folder}/targets.pt2").module()
torch.testing.assert_close(program(rows), regression(rows))
"""


def test_images_of_any_size_are_enlarged_and_what_is_said_besides_logits_is_told(tmp_path):
    done = subprocess.run([sys.executable, "-c", ENLARGED, str(tmp_path)], capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["any.onnx", "fixed.pt2", "plain.pt2", "twice.pt2"]
    without, *fixed = done.stdout.splitlines()
    assert without == "PCSR cannot be exported: it has no scale of its own; make it with scale=4, say"
    assert fixed == ["(3, None, None)", "(3, 32, 32)", "(3, 32, 32)"]


def test_tables_come_in_their_units(tmp_path):
    done = subprocess.run([sys.executable, "-c", TABLES, str(tmp_path)], capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_shell_says_how_many_columns(tmp_path):
    run = [sys.executable, "-m", "zoo", "export", "kan_breast_cancer", "--out", "table.pt2"]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "any number of rows of 30 columns; differs from the model by" in done.stdout


def test_bags_are_padded_and_masked(tmp_path):
    done = subprocess.run([sys.executable, "-c", BAGS, str(tmp_path)], capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bags.onnx", "bits.pt2", "images.pt2"]
    sequences, endless = done.stdout.splitlines()
    assert sequences.startswith("DeepRC cannot be exported: of each bag it keeps the share of sequences")
    assert endless.endswith("cannot be exported: pool.hopfield goes on until nothing changes; give it num_updates")


def test_what_cannot_be_exported_leaves_nothing_behind(tmp_path):
    path = tmp_path / "model.pt2"
    path.write_text("older")
    done = subprocess.run([sys.executable, "-c", REFUSED, str(path)], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = done.stdout.splitlines()
    assert first.startswith("Branching cannot be exported to torch-export: ")
    assert second.startswith("the torch-export file differs from the model by")
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt2"]
    assert path.read_text() == "older"


@pytest.mark.parametrize(
    ("path", "options", "error", "message"),
    [
        ("model.pth", {}, ValueError, r"ends in neither of .onnx \(onnx\), .pt2 \(torch-export\)"),
        ("model.onnx", {"to": "onx"}, ValueError, "got 'onx'; did you mean 'onnx'"),
        ("model.onnx", {"batch": 0}, ValueError, "batch must be a whole number from 1.*got 0"),
        ("model.onnx", {"tolerance": float("nan")}, ValueError, "tolerance must be a number from 0, got nan"),
        ("model.onnx", {"opset": 13}, ValueError, "opset must be a whole number from 18 to [0-9]+, got 13"),
        ("model.onnx", {"opset": 99}, ValueError, "opset must be a whole number from 18 to [0-9]+, got 99"),
        ("model.pt2", {"opset": 18}, ValueError, "opset is of ONNX"),
        ("model.pt2", {"to": "onnx"}, ValueError, "has the ending of another format; that of onnx is .onnx"),
        (".", {"to": "onnx"}, IsADirectoryError, "is a folder; give the file that shall be written"),
        ("model.pt2", {"optset": 18}, TypeError, "did you mean 'opset'"),
    ],
)
def test_options_are_checked(tmp_path, path, options, error, message):
    with pytest.raises(error, match=message):
        export(zoo.create_model("test_resnet", device="meta"), tmp_path / path, **options)
    assert not list(tmp_path.iterdir())


def test_only_models_by_name(tmp_path):
    with pytest.raises(TypeError, match=r"zoo.export\(zoo.create_model\('resnet18'\), ...\)"):
        export("resnet18", tmp_path / "a.onnx")  # type: ignore[arg-type]
    with pytest.raises(ExportError, match="its input is not known"):
        export(nn.Linear(2, 3), tmp_path / "a.pt2")


def test_from_the_shell(tmp_path):
    run = [sys.executable, "-m", "zoo", "export"]
    name = "tversky_mnist_cnn.digits"
    done = subprocess.run(
        [*run, name, "--to", "torch-export", "--json"], cwd=tmp_path, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (tmp_path / facts["path"]).stat().st_size == facts["size"]
    assert Path(facts["path"]).name == f"{name}.pt2"
    named = [*run, name, "--out", "by_its_ending.pt2", "--no-verify", "--json"]
    done = subprocess.run(named, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["format"], facts["error"], facts["opset"]) == ("torch-export", None, None)
    torch.export.load(tmp_path / "by_its_ending.pt2")
    wrong = subprocess.run([*run, name, "--to", "tflite"], cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert wrong.returncode == 1
    assert "to must be one of 'onnx', 'torch-export', got 'tflite'" in wrong.stderr
    assert torch.is_grad_enabled()


def test_the_shell_says_that_bags_are_padded(tmp_path):
    run = [sys.executable, "-m", "zoo", "export", "hopfield_mnist_bags.fashion", "--out", "bags.pt2"]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    said = "any number of bags, padded to the longest and with a padding_mask (True: no instance), of 1×28×28"
    assert said in done.stdout
