"""Compositions through the Hub: by our client and by timm's, in this process and in fresh ones, well-formed and not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import HfApi, ModelCard, hf_hub_download
from torch import nn

import zoo
from tests.composition.models import composed, images, output
from zoo.errors import ConfigError, MismatchError, UnknownModelError, UnknownModuleError, UnsupportedSurgery

READ = """
import sys
{imports}
import numpy as np, timm, torch
torch.set_num_threads(1)
repo, folder = sys.argv[1:]
try:
    model = timm.create_model("hf-hub:" + repo, pretrained=True).eval()
except RuntimeError as error:
    print(error)
    sys.exit()
with torch.no_grad():
    output = model(torch.from_numpy(np.load(folder + "/input.npy"))).numpy()
print(output.tobytes() == np.load(folder + "/output.npy").tobytes(), model.zoo_spec["head"])
other = timm.create_model("hf-hub:" + repo, pretrained=True, num_classes=3, in_chans=1)
print(type(other.get_submodule(model.pretrained_cfg["classifier"])).__name__, other.zoo_spec["num_classes"])
"""


@pytest.fixture(autouse=True)
def one_thread():
    """The number of threads may change the last bit; the other process has one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def same_tensors(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) for n in ours)


def test_pushed_and_pulled_bit_for_bit(hub, transfer):
    repo = hub.repo_id("composed")
    model = composed("convnext mlp and head")
    result = zoo.push_to_hub(model, repo, license="mit", tag="v1")
    again = zoo.create_model(f"hf-hub:{repo}@v1").eval()
    assert same_tensors(again, model)
    assert torch.equal(output(again), output(model))
    assert again.zoo_spec == model.zoo_spec
    assert again.zoo_source["commit"] == result.commit
    assert "all from" in zoo.summary(again).weights
    theirs = timm.create_model(f"hf-hub:{repo}", pretrained=True).eval()
    assert same_tensors(theirs, model)
    assert torch.equal(output(theirs), output(model))
    config = json.loads(Path(hf_hub_download(repo, "config.json")).read_text())
    assert (config["architecture"], config["zoo"]["spec"]) == ("zoo_composite", model.zoo_spec)


@pytest.mark.parametrize("reader", ["zoo", "timm"])
def test_other_classes_and_channels_from_the_hub(hub, reader):
    repo = hub.repo_id("composed")
    model = composed("convnet head")
    zoo.push_to_hub(model, repo, license="mit")
    read = zoo.create_model if reader == "zoo" else timm.create_model
    other = read(f"hf-hub:{repo}", pretrained=True, num_classes=3, in_chans=1)
    assert type(other.fc) is type(model.fc)
    assert (other.num_classes, other.in_chans) == (3, 1)
    state = other.state_dict()
    kept = {n: t for n, t in model.state_dict().items() if not n.startswith(("fc.", "conv1.0."))}
    assert all(torch.equal(state[n], t) for n, t in kept.items())
    torch.testing.assert_close(state["conv1.0.weight"], model.conv1[0].weight.sum(1, keepdim=True))


@pytest.mark.parametrize("transfer", ["lfs"], indirect=True)
@pytest.mark.parametrize(
    ("imports", "lines"),
    [
        ("import zoo", ["True {'type': 'kan'}", "KANHead 3"]),
        ("import timm, zoo", ["True {'type': 'kan'}", "KANHead 3"]),
        ("", ["Unknown model (zoo_composite)"]),
    ],
)
def test_timm_in_a_fresh_process(hub, tmp_path, transfer, imports, lines):
    repo = hub.repo_id("composed")
    model = composed("convnet head")
    zoo.push_to_hub(model, repo, license="mit")
    np.save(tmp_path / "input.npy", images(model).numpy())
    np.save(tmp_path / "output.npy", output(model).numpy())
    done = hub.run_python(READ.format(imports=imports), repo, str(tmp_path), HF_HUB_DISABLE_XET="1")
    assert done.stdout.splitlines() == lines


def test_pushed_by_timm_and_read_by_both(hub, transfer):
    repo = hub.repo_id("composed")
    model = composed("vit mlp and pool")
    timm.models.push_to_hf_hub(model, repo)
    for read in (zoo.create_model, timm.create_model):
        again = read(f"hf-hub:{repo}", pretrained=True).eval()
        assert same_tensors(again, model)
        assert torch.equal(output(again), output(model))
        # timm also writes down what the model has without being told.
        assert again.zoo_spec == {**model.zoo_spec, "global_pool": "token", "img_size": [64, 64]}


class Scaled(nn.Linear):
    """A head that nobody has registered."""


def _callable(in_features: int, out_features: int) -> nn.Module:
    return nn.Linear(in_features, out_features)


@pytest.mark.parametrize("head", [Scaled, _callable, {"type": Scaled, "bias": False}])
def test_a_class_in_a_spec_is_not_published(hub, tmp_path, head):
    repo = hub.repo_id("composed")
    model = zoo.create_model("test_resnet", head=head, num_classes=3)
    assert output(model.eval()).shape == (2, 3)
    for publish in (
        lambda: zoo.save_pretrained(model, tmp_path / "a"),
        lambda: zoo.push_to_hub(model, repo, license="mit"),
    ):
        with pytest.raises(ConfigError, match=r"'head'.*(Scaled|_callable).*register the class under a name"):
            publish()
    assert not (tmp_path / "a").exists()
    assert not hub.seen("POST")
    assert not HfApi(token=hub.token).repo_exists(repo)


def test_the_card_says_what_it_is_made_of(hub):
    base = hub.repo_id("base")
    zoo.push_to_hub(zoo.create_model("test_vit", num_classes=3), base, license="mit")
    repo = hub.repo_id("composed")
    mlp = {"type": "kan", "where": "last:1", "grid_size": 4}
    model = zoo.create_model(f"hf-hub:{base}", mlp=mlp, pool="avg")
    zoo.push_to_hub(model, repo, license="mit")
    card = ModelCard(Path(hf_hub_download(repo, "README.md")).read_text())
    assert card.data.base_model == base
    assert {"mlp/kan", "pool/avg", "zoo", "timm"} <= set(card.data.tags)
    text = card.text
    assert "- Architecture: `test_vit`, with parts replaced" in text
    assert "- Feed-forward parts: `mlp/kan` at `last:1` with grid_size=4" in text
    assert "- Global pooling: `pool/avg`" in text
    assert f"- Fine-tuned from: `{base}`" in text
    how_to = text.partition("with timm:")[2].partition("```python")[2].partition("```")[0]
    assert "import zoo" in how_to
    namespace: dict[str, Any] = {}
    exec(how_to, namespace)
    assert same_tensors(namespace["model"], model)
    ours = text.partition("```python")[2].partition("```")[0]
    exec(ours, namespace)
    assert same_tensors(namespace["model"], model)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    zoo.save_pretrained(composed("vit mlp and pool"), folder, verify=False)
    return folder


def with_args(saved: Path, tmp_path: Path, **changes: Any) -> str:
    """A copy of the saved model with other arguments in its config.json; `None` takes one out."""
    folder = tmp_path / "changed"
    folder.mkdir()
    config = json.loads((saved / "config.json").read_text())
    config["model_args"] = {k: v for k, v in {**config["model_args"], **changes}.items() if v is not None}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").hardlink_to(saved / "model.safetensors")
    return f"local-dir:{folder}"


def test_a_module_that_the_reader_does_not_have(saved, tmp_path):
    message = (
        r"config\.json: unknown module 'mlp/tversky'.*written by zoo [\d.]+: upgrade zoo, or import the package that "
        r"registers the module first"
    )
    with pytest.raises(UnknownModuleError, match=message):
        zoo.create_model(with_args(saved, tmp_path, mlp={"type": "tversky"}))


MALFORMED = [
    ({"mlp": {"type": "kna"}}, UnknownModuleError, "did you mean 'mlp/kan'"),
    ({"head": "mlp/kan"}, UnknownModuleError, "is of kind 'mlp' and cannot go in the place of a head"),
    ({"head": "os.system"}, UnknownModuleError, "unknown module 'head/os.system'"),
    ({"head": {"type": "os.system"}}, UnknownModuleError, "unknown module 'head/os.system'"),
    ({"head": {"type": "zoo.layers.kan:KANHead"}}, UnknownModuleError, "unknown module"),
    ({"mlp": 5}, ConfigError, "holds no composition: mlp must be the name of a module"),
    ({"mlp": ["kan"]}, ConfigError, "holds no composition: mlp must be"),
    ({"mlp": {}}, ConfigError, "has no 'type'"),
    ({"mlp": {"type": {"type": "kan"}}}, ConfigError, "holds no composition: mlp must be"),
    ({"mlp": {"type": "kan", "eval": "1"}}, ConfigError, "takes no argument 'eval'"),
    ({"mlp": {"type": "kan", "where": {"a": 1}}}, ConfigError, "where must be"),
    ({"mlp": {"type": "kan", "where": [10**6]}}, UnsupportedSurgery, "goes beyond the places"),
    ({"mlp": {"type": "kan", "where": [10**30]}}, ConfigError, "does not fit into 64 bits"),
    ({"mlp": {"type": "kan", "init": "evil"}}, ConfigError, "init must be 'match' or 'own'"),
    ({"mlp": {"type": "kan", "in_features": 3}}, ValueError, "in_features of mlp/kan comes from the backbone"),
    ({"mlp": {"type": "kan", "device": "cuda"}}, ValueError, "device of mlp/kan comes from the backbone"),
    ({"mlp": {"type": "mlp", "act_layer": {"type": "os.system"}}}, UnknownModuleError, r"os\.system"),
    ({"mixxer": {"type": "attention"}}, ConfigError, "no argument 'mixxer'"),
    ({"base": None}, ConfigError, "a spec needs a 'base'"),
    ({"base": 5}, ConfigError, "a spec needs a 'base'"),
    ({"base": "os.system"}, UnknownModelError, "'os.system'"),
    ({"base": "tets_vit"}, UnknownModelError, "test_vit"),
    ({"base": "zoo_composite"}, ConfigError, "not a backbone"),
    ({"base": "hf-hub:alice/other"}, UnknownModelError, "hf-hub:alice/other"),
    ({"base": "local-dir:/"}, UnknownModelError, "local-dir:/"),
    ({"num_classes": "3"}, ConfigError, "num_classes must be"),
    ({"num_classes": 10**12}, MismatchError, "has a classifier for 5 classes"),
    ({"mlp": {"type": "kan", "hidden_features": 10**6}}, MismatchError, "of another shape"),
    ({"mlp": {"type": "kan", "hidden_features": 10**9}}, ConfigError, "which no model is built with"),
    ({"device": "cuda:7"}, ConfigError, "sets device, which only whoever loads the model can say"),
    ({"features_only": True}, ConfigError, "sets features_only"),
    ({"checkpoint_path": "/etc/passwd"}, ConfigError, "sets checkpoint_path"),
    ({"pretrained_cfg": {"file": "/etc/passwd"}}, ConfigError, "sets pretrained_cfg"),
]


@pytest.mark.parametrize(("changes", "error", "message"), MALFORMED, ids=[str(m[0])[:60] for m in MALFORMED])
def test_a_malformed_spec_is_refused(hub, saved, tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        zoo.create_model(with_args(saved, tmp_path, **changes))
    assert not hub.requests  # nothing is fetched from elsewhere


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"head": {"type": "os.system"}}, UnknownModuleError),
        ({"base": "hf-hub:alice/other"}, UnknownModelError),
        ({"base": "local-dir:/"}, UnknownModelError),
        ({"mlp": {"type": "mlp", "act_layer": {"type": "os.system"}}}, UnknownModuleError),
        ({"head": {"type": "kan"}}, RuntimeError),  # weights of another head, for as many classes
    ],
)
def test_timm_reads_no_malformed_spec_either(hub, saved, tmp_path, changes, error):
    with pytest.raises(error):
        timm.create_model(with_args(saved, tmp_path, **changes), pretrained=True)
    assert not hub.requests
