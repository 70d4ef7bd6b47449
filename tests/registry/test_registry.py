"""The registry: look-ups, wildcards, tags, order, suggestions, registration."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import zoo
from zoo.errors import RegistrationError, UnknownModelError, UnknownModuleError
from zoo.naming import near_names
from zoo.registry import Entry, Family, Registry, WeightsEntry, default_registry, select
from zoo.registry.catalogue import read_catalogue, read_family

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/platform/list_models.json").read_text())
FAMILY = Family("toy", title="Toys")


def toy_registry() -> Registry:
    entries = [
        Entry("toy_net_18", "model", "toys:Net", FAMILY, aliases=("toy_net",), uses=("mlp/kan",)),
        Entry("toy_net_101", "model", "toys:Net", FAMILY),
        Entry("head/toy", "head", "toys:Head", FAMILY),
        Entry("mlp/kan", "mlp", "toys:Mlp", FAMILY),
    ]
    weights = [
        WeightsEntry("toy_net_18", "b_in1k", path=Path("b.safetensors")),
        WeightsEntry("toy_net_18", "a_in1k", path=Path("a.safetensors"), default=True),
    ]
    return Registry(entries, weights)


def test_natural_order_and_tags():
    registry = toy_registry()
    assert registry.list_models() == ["toy_net", "toy_net_18", "toy_net_101"]
    assert registry.list_models(pretrained=True) == ["toy_net_18.a_in1k", "toy_net_18.b_in1k"]
    assert registry.list_models("*101") == ["toy_net_101"]
    assert registry.list_models("toy_net_18", include_tags=True) == ["toy_net_18.a_in1k", "toy_net_18.b_in1k"]
    assert registry.list_models("toy_net_18.a*", include_tags=True) == ["toy_net_18.a_in1k"]
    assert registry.list_models(exclude_filters="*101") == ["toy_net", "toy_net_18"]
    assert registry.list_models(uses="mlp/kan") == ["toy_net", "toy_net_18"]
    assert registry.tags("toy_net") == ["a_in1k", "b_in1k"]  # the default first
    assert registry.weights("toy_net").tag == "a_in1k"
    assert registry.weights("toy_net_18.b_in1k").path == Path("b.safetensors")
    assert registry.weights("toy_net_101") is None


@pytest.mark.parametrize("pattern", sorted(GOLDEN["filters"]))
def test_wildcards_as_in_timm(pattern):
    assert zoo.list_models(pattern, source="timm") == GOLDEN["filters"][pattern]


@pytest.mark.parametrize("pattern", sorted(GOLDEN["with_tags"]))
def test_tags_as_in_timm(pattern):
    """Our own selection, given all of timm's tagged names, picks the golden ones in the golden order."""
    import timm

    everything = timm.list_models(pretrained=True, include_tags=True)
    random.Random(0).shuffle(everything)
    assert select(everything, pattern, "") == GOLDEN["with_tags"][pattern]


def test_natural_sort_as_in_timm():
    shuffled = sorted(GOLDEN["natural_sort"], reverse=True)
    assert select(shuffled, "", "") == GOLDEN["natural_sort"]


def test_unknown_names_are_refused_with_near_names():
    registry = toy_registry()
    with pytest.raises(UnknownModelError, match=r"unknown model 'Toy_net18'; did you mean .*'toy_net_18'"):
        registry.model("Toy_net18")
    with pytest.raises(UnknownModelError, match=r"no checkpoint tagged 'c_in1k'.*'a_in1k' \(default\), 'b_in1k'"):
        registry.weights("toy_net_18.c_in1k")
    with pytest.raises(UnknownModelError, match="hf-hub:user/repo"):
        registry.model("user/repo")
    with pytest.raises(UnknownModuleError, match=r"did you mean 'head/toy'"):
        registry.module("toyy", "head")
    with pytest.raises(UnknownModuleError, match=r"it exists as 'mlp/kan'"):
        registry.module("kan", "head")
    with pytest.raises(UnknownModuleError, match=r"unknown kind 'heads'; did you mean 'head'"):
        registry.module("heads/toy")
    with pytest.raises(UnknownModelError, match=r"unknown family 'toyz'; did you mean 'toy'"):
        registry.list_models(family="toyz")
    with pytest.raises(ValueError, match="'zoo', 'timm' or 'all', got 'tim'"):
        zoo.list_models(source="tim")


def test_unknown_model_error_is_what_timm_users_catch():
    for kind in (RuntimeError, KeyError, zoo.ZooError):
        with pytest.raises(kind, match="unknown model 'x'"):
            default_registry().model("x")


def test_taken_names_are_refused():
    registry = toy_registry()
    again = Entry("toy_net", "model", "toys:Other", FAMILY)
    with pytest.raises(RegistrationError, match="'toy_net' is already registered; pass override=True"):
        registry.add(again)
    registry.add(again, override=True)
    assert registry.model("toy_net").target == "toys:Other"
    with pytest.raises(RegistrationError, match="unknown kind 'heads'"):
        registry.add(Entry("heads/x", "heads", "toys:X", FAMILY))


def test_typos_find_the_right_name():
    """Of 200 one-letter typos of registered names, at least 95 % have the right name among the suggestions."""
    import timm

    generator = random.Random(0)
    names = [*zoo.list_models(), *timm.list_models()]
    hits = 0
    for _ in range(200):
        name = generator.choice(names)
        at = generator.randrange(len(name))
        letter = generator.choice("abcdefghijklmnopqrstuvwxyz0123456789_")
        typo = generator.choice(
            [name[:at] + letter + name[at + 1 :], name[:at] + name[at + 1 :], name[:at] + letter + name[at:]]
        )
        hits += typo in names or name in near_names(typo, names)
    assert hits >= 190


def test_catalogue_is_complete_and_loads():
    entries, weights = read_catalogue()
    names = [e.name for e in entries]
    assert "medvit2_kan_tiny" in names
    assert len(names) == len(set(names))
    for entry in entries:
        assert entry.summary, f"{entry.name} has no summary"
        assert callable(entry.load())
        if entry.kind == "model" and not entry.hidden:
            assert entry.params is not None, f"{entry.name} lacks its parameters"
            # A model of something else than images has no input size, nor operations of one image.
            assert bool(entry.macs) == bool(entry.input_size), f"{entry.name} lacks one of its sizes"
    for row in weights:
        assert row.arch in names
        assert row.licence
        assert row.metrics
        if row.path is not None:  # of other people's files we have neither
            assert row.sha256
            assert row.command


def test_module_info_tells_contract_and_options():
    info = zoo.module_info("head/kan")
    assert info["contract"] == {
        "constructor": "(in_features, out_features, *, bias=True, device=None, dtype=None)",
        "call": "(*, in) -> (*, out)",
    }
    assert info["options"]["bias"] is True
    assert info["options"]["basis"] == "gaussian"
    assert not {"in_features", "out_features", "device", "dtype"} & set(info["options"])
    mixer = zoo.module_info("mixer/dina")["options"]
    assert mixer["dilation"] == 2  # of the catalogue entry
    assert mixer["kernel_size"] == 7
    assert "num_heads" not in mixer
    assert zoo.module_info("act/relu")["options"] == {"inplace": False}


def test_contracts_are_known_without_torch():
    """Every kind has a contract in words or is left to its page, and its sizes are arguments of its constructor."""
    from zoo.registry import KINDS
    from zoo.registry.contracts import CONTRACTS

    assert set(KINDS) - set(CONTRACTS) == {"memory", "localizer", "case"}
    for kind, contract in CONTRACTS.items():
        assert all(size in contract.constructor for size in contract.sizes), kind
    code = "import sys, zoo.registry.contracts; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_bad_catalogue_files(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("[family\n")
    with pytest.raises(RegistrationError, match=r"bad.toml: not valid TOML"):
        list(read_family(path))
    path.write_text('[family]\ntitle = "x"\n[models.a]\ntarget = "b:c"\nsumary = "typo"\n')
    with pytest.raises(TypeError, match=r"'sumary'; did you mean 'summary'"):
        list(read_family(path))
    path.write_text('[family]\ntitle = "x"\n[modules."heads/a"]\ntarget = "b:c"\n')
    with pytest.raises(RegistrationError, match="'heads/a' must be named 'kind/name'"):
        list(read_family(path))


def test_listing_is_quick_and_free_of_torch():
    code = textwrap.dedent("""
        import sys, time
        import zoo
        zoo.list_models()
        start = time.perf_counter()
        names = zoo.list_models("medvit2*")
        assert time.perf_counter() - start < 0.05
        assert names
        zoo.list_modules(kind="mlp")
        heavy = {"torch", "timm", "huggingface_hub", "matplotlib", "accelerate"} & set(sys.modules)
        assert not heavy, heavy
    """)
    subprocess.run([sys.executable, "-c", code], check=True)


USE_THROUGH_TIMM = """
    model = timm.create_model("medvit2_kan_nano", num_classes=3)
    assert type(model).__module__.startswith("zoo.models"), type(model)
    assert timm.is_model("medvit2_kan"), "aliases are mirrored too"
    assert "medvit2_kan_nano" in timm.list_models("medvit2*")

    @zoo.register_model(input_size=(3, 32, 32))
    def my_own_net(pretrained=False, **kwargs):
        "A net of mine."
        return timm.create_model("test_resnet", **kwargs)

    assert timm.create_model("my_own_net", num_classes=2).num_classes == 2
    assert "my_own_net" in zoo.list_models()
"""


@pytest.mark.parametrize("order", ["import zoo, timm", "import timm, zoo", "import timm.layers, zoo, timm"])
def test_models_are_in_timm_whatever_the_import_order(order):
    subprocess.run([sys.executable, "-c", order + "\n" + textwrap.dedent(USE_THROUGH_TIMM)], check=True)


def test_replacing_a_timm_model_is_refused():
    code = textwrap.dedent("""
        import timm, zoo
        try:
            zoo.register_model(lambda pretrained=False, **kw: None, name="resnet18")
        except zoo.errors.RegistrationError as error:
            assert "timm already has a model named 'resnet18'" in str(error)
        else:
            raise SystemExit("resnet18 was replaced")
        assert not zoo.is_model("resnet18")
        zoo.register_model(lambda pretrained=False, **kw: "mine", name="test_vit", override=True)
        assert timm.models.model_entrypoint("test_vit").__module__.startswith("zoo")
    """)
    subprocess.run([sys.executable, "-c", code], check=True)


class _Plain:
    """A class to register."""


@pytest.mark.parametrize(
    ("target", "name", "facts", "words"),
    [
        (5, "five", {}, r"a module is registered by a class, or a function that builds the module, got 5, a int"),
        (lambda dim: None, None, {}, r"<lambda>.* has no name of its own: register the module with name='…'"),
        (_Plain, "a b/c", {}, r"made of letters, digits, '_' and '-', got 'a b/c'"),
        (_Plain, "head/mine", {}, r"made of letters, digits, '_' and '-', got 'head/mine'"),
        (_Plain, "mine", {"layout": "NHCW"}, r"unknown layout 'NHCW' for 'mixer/mine'; did you mean .*'NHWC'.*Layouts"),
        (_Plain, "mine", {"layout": None}, r"Layouts: '', 'NLC', 'NHWC', 'NCHW', 'windows'"),
    ],
)
def test_a_module_that_cannot_be_registered(target, name, facts, words):
    before = zoo.list_modules()
    with pytest.raises(RegistrationError, match=words):
        zoo.register_module("mixer", name, **facts)(target)
    assert zoo.list_modules() == before


@pytest.mark.parametrize(
    ("target", "name", "words"),
    [
        ("toys:net", "net", r"a model is registered by a function or a class, got 'toys:net', a str"),
        (lambda pretrained=False: None, None, r"register the model with name='…'"),
        (_Plain, "net.tag", r"the name of a model is made of letters, digits, '_' and '-', got 'net.tag'"),
        (_Plain, "my/net", r"got 'my/net'"),
    ],
)
def test_a_model_that_cannot_be_registered(target, name, words):
    with pytest.raises(RegistrationError, match=words):
        zoo.register_model(target, name=name)


PLUGIN_CODE = """
from torch import nn

def plugin_net(pretrained=False, pretrained_cfg=None, pretrained_cfg_overlay=None, cache_dir=None, **kwargs):
    "A net from a plug-in."
    return nn.Linear(2, kwargs.get("num_classes", 2))

class PluginHead(nn.Linear):
    "A head from a plug-in."
"""


def test_entry_points(tmp_path):
    """A package on the path that declares entry points is found without being imported; a broken one is named."""
    (tmp_path / "toy_plugin.py").write_text(PLUGIN_CODE)
    info = tmp_path / "toy_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[zoo.models]\nplugin_net = toy_plugin:plugin_net\nbroken_net = toy_plugin:missing\n"
        "[zoo.modules]\nhead/plugin = toy_plugin:PluginHead\n"
    )
    code = textwrap.dedent("""
        import sys, zoo
        assert "plugin_net" in zoo.list_models()
        assert "head/plugin" in zoo.list_modules(kind="head")
        assert "toy_plugin" not in sys.modules, "a plug-in is imported when it is built, not when it is listed"
        assert zoo.create_model("plugin_net", num_classes=5).out_features == 5
        assert zoo.create_module("head/plugin", 3, 4).out_features == 4
        import timm
        assert timm.is_model("plugin_net")
        try:
            zoo.create_model("broken_net")
        except zoo.ZooError as error:
            assert "broken_net" in str(error) and "toy-plugin" in str(error), error
        else:
            raise SystemExit("a broken plug-in was built")
    """)
    import os

    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": path})


def test_suggestions_over_all_names_are_quick():
    import timm

    names = [*zoo.list_models(), *timm.list_models()]
    start = time.process_time()
    assert "resnet50" in near_names("resnet5O", names)
    assert time.process_time() - start < 0.3


def test_a_family_lists_the_models_of_its_further_papers():
    assert zoo.list_models(family="deeprc") == ["deeprc_cnn"]
    assert {"deeprc_cnn", "hopfield_mil"} <= set(zoo.list_models(family="hopfield"))
