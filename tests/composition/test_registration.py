"""Compositions by name: the user's own, and those of the catalogue."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import timm
import torch

import zoo
from zoo.composition import is_composition
from zoo.errors import RegistrationError, UnknownModelError, UnknownModuleError
from zoo.registry import default_registry, model_entry

SPEC = {"base": "test_convnext", "mlp": {"type": "kan", "where": "last:2"}, "head": "kan"}
NAMED = [e.name for e in default_registry().models if is_composition(e) and e.args and e.source != "user"]


@pytest.fixture
def name(request, monkeypatch):
    """A name that no other test has, as timm keeps what is registered; ours forgets it after the test."""
    registry = default_registry()
    for attribute in ("_entries", "_aliases"):
        monkeypatch.setattr(registry, attribute, dict(getattr(registry, attribute)))
    return f"my_{zlib.crc32(request.node.nodeid.encode())}"


def test_a_registered_spec_is_a_model(name):
    zoo.register_spec(name, SPEC, summary="two KAN blocks", aliases=[f"{name}_too"])
    assert zoo.is_model(name)
    assert name in zoo.list_models(f"{name}*")
    entry = model_entry(name)
    assert (entry.summary, entry.uses, entry.family.title) == (
        "two KAN blocks",
        ("mlp/kan", "head/kan"),
        "Registered by the user",
    )
    model = zoo.create_model(name, num_classes=4)
    assert model.zoo_spec == {**zoo.compose(SPEC).zoo_spec, "num_classes": 4}
    also = zoo.create_model(f"{name}_too", num_classes=4)
    assert also.zoo_spec == model.zoo_spec
    theirs = timm.create_model(name, num_classes=4)
    assert theirs.zoo_spec == model.zoo_spec
    assert name in timm.list_models(f"{name}*")
    assert timm.get_pretrained_cfg(name).input_size == (3, 160, 160)


def test_it_can_be_composed_further_and_built_upon(name):
    zoo.register_spec(name, SPEC)
    model = zoo.create_model(name, act="silu", head="linear", num_classes=4)
    assert model.zoo_spec == {
        "base": "test_convnext",
        "mlp": {"type": "kan", "where": "last:2"},
        "act": {"type": "silu"},
        "head": {"type": "linear"},
        "in_chans": 3,
        "num_classes": 4,
    }
    zoo.register_spec(f"{name}_2", {"base": name, "act": "silu", "num_classes": 6})
    assert zoo.create_model(f"{name}_2").zoo_spec == {
        **zoo.create_model(name, act="silu", num_classes=6).zoo_spec,
    }


def test_a_name_is_taken_once(name):
    zoo.register_spec(name, SPEC)
    with pytest.raises(RegistrationError, match=name):
        zoo.register_spec(name, {"base": "test_vit", "mlp": "kan"})
    zoo.register_spec(name, {"base": "test_vit", "mlp": "kan"}, override=True)
    assert zoo.create_model(name).zoo_spec["base"] == "test_vit"
    assert timm.create_model(name).zoo_spec["base"] == "test_vit"
    with pytest.raises(RegistrationError, match="resnet18"):
        zoo.register_spec("resnet18", SPEC)


def test_what_is_no_spec_is_refused_and_not_registered(name):
    for spec, error, message in [
        ({"base": "tets_vit", "mlp": "kan"}, UnknownModelError, "did you mean.*test_vit"),
        ({"base": "test_vit", "mlp": "kna"}, UnknownModuleError, "did you mean 'mlp/kan'"),
        ({"mlp": "kan"}, ValueError, "a spec needs a 'base'"),
        ({"base": "test_vit", "mlp": {"type": "kan", "centres": 3}}, TypeError, "takes no argument 'centres'"),
        ("test_vit", TypeError, "a spec is a mapping"),
        ({"base": "local-dir:/tmp", "mlp": "kan"}, UnknownModelError, "local-dir"),
    ]:
        with pytest.raises(error, match=message):
            zoo.register_spec(name, spec)
        assert not zoo.is_model(name)
    with pytest.raises(ValueError, match="letters, digits"):
        zoo.register_spec("a name", SPEC)
    with pytest.raises(TypeError, match=r"sumary.*summary"):
        zoo.register_spec(name, SPEC, sumary="")


@pytest.mark.parametrize("imports", ["import timm, zoo", "import zoo, timm"])
def test_timm_sees_what_is_registered_in_either_order(imports):
    code = f"""
{imports}
zoo.register_spec("mine", {SPEC!r})
import timm
print(timm.is_model("mine"), timm.create_model("mine", num_classes=2).zoo_spec["head"], "mine" in zoo.list_models())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["True {'type': 'kan'} True"]


def test_it_is_saved_under_the_name_that_every_zoo_knows(name, tmp_path: Path):
    zoo.register_spec(name, SPEC)
    model = zoo.create_model(name, num_classes=2)
    zoo.save_pretrained(model, tmp_path / "a")
    config = json.loads((tmp_path / "a/config.json").read_text())
    assert config["architecture"] == "zoo_composite"
    assert name not in json.dumps(config)


@pytest.mark.parametrize("name", NAMED)
def test_the_catalogue_says_what_is_built(name):
    entry = model_entry(name)
    with torch.device("meta"):
        model = zoo.create_model(name)
    assert zoo.data_config(model)["input_size"] == tuple(entry.input_size)
    facts = zoo.summary(model)
    assert (facts.params, facts.macs) == (entry.params, entry.macs)
    changes = {change.slot for change in model.zoo_composition.changes}
    assert {use.partition("/")[0] for use in entry.uses} == changes
    assert entry.summary
    again = zoo.create_model(name, num_classes=3, device="meta")
    assert again.zoo_spec == {**model.zoo_spec, "num_classes": 3}


def test_the_catalogue_has_a_few_of_every_kind():
    used = {use for name in NAMED for use in model_entry(name).uses}
    assert len(NAMED) >= 5
    assert {"head/kan", "mlp/kan", "mixer/dina", "pool/avg"} <= used


def test_the_form_itself_is_not_listed_and_is_no_backbone():
    assert "zoo_composite" not in zoo.list_models()
    with pytest.raises(ValueError, match="base"):
        zoo.create_model("zoo_composite")
    with pytest.raises(ValueError, match="a spec needs a 'base'"):
        zoo.compose({"base": "zoo_composite", "head": "kan"})
