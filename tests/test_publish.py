"""Saving into a folder: what is written is the model, bit for bit, or nothing is written."""

import json

import pytest
import timm
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from torch import nn

import zoo
from zoo.errors import ConfigError, MismatchError, NonFiniteWeightsError

LABELS = ["benign", "malignant", "unclear"]


def make(name="test_vit", seed=0, **options):
    torch.manual_seed(seed)
    model = zoo.create_model(name, **{"num_classes": 3, **options})
    zoo.set_data_config(model, label_names=LABELS[: model.num_classes])
    return model


def output(model, seed=1):
    size = zoo.data_config(model)["input_size"]
    image = torch.randn(2, *size, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return model.eval()(image)


def same_state(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# --- into a folder ---


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("test_vit", {"img_size": 96, "in_chans": 1, "global_pool": "avg"}),
        ("test_resnet", {"in_chans": 1}),
        ("test_convnext", {"num_classes": 0}),
        ("test_efficientnet", {"drop_path_rate": 0.2}),
        ("swin_tiny_patch4_window7_224", {"embed_dim": 24, "depths": (1, 1, 1, 1)}),
        ("medvit2_kan_nano", {}),
        ("medvit2_kan_nano", {"in_chans": 1, "img_size": 28}),
    ],
)
def test_saved_loaded_and_saved_again_is_the_same(tmp_path, name, options):
    if name == "medvit2_kan_nano":
        options = {k: v for k, v in options.items() if k != "img_size"}
    model = make(name, **options)
    zoo.save_pretrained(model, tmp_path / "a")
    again = zoo.from_pretrained(tmp_path / "a")
    assert same_state(model, again)
    assert torch.equal(output(model), output(again))
    assert again.pretrained_cfg.get("label_names") == (tuple(LABELS) if model.num_classes else None)
    zoo.save_pretrained(again, tmp_path / "b")
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_timm_reads_the_folder(tmp_path):
    model = make()
    zoo.save_pretrained(model, tmp_path / "a")
    theirs = timm.create_model(f"local-dir:{tmp_path / 'a'}", pretrained=True)
    assert torch.equal(output(theirs), output(model))


def test_changes_after_building_are_saved(tmp_path):
    model = make(num_classes=3)
    model.reset_classifier(2, "avg")
    zoo.set_data_config(model, mean=0.25, std=0.5, label_names=["no", "yes"])
    zoo.save_pretrained(model, tmp_path / "a", license="mit", metrics={"acc": 0.5}, training={"epochs": 2})
    again = zoo.from_pretrained(tmp_path / "a")
    assert again.num_classes == 2
    assert torch.equal(output(model), output(again))
    assert zoo.data_config(again)["mean"] == (0.25, 0.25, 0.25)
    assert again.pretrained_cfg["label_names"] == ("no", "yes")
    block = json.loads((tmp_path / "a/config.json").read_text())["zoo"]
    assert block["metrics"] == [{"name": "acc", "value": 0.5}]
    assert block["training"] == {"epochs": 2}
    assert ModelCard((tmp_path / "a/README.md").read_text()).data.license == "mit"


@pytest.mark.parametrize("change", ["channels_last", "bfloat16", "training", "frozen"])
def test_state_that_is_no_weight_does_not_disturb(tmp_path, change):
    model = make("test_resnet")
    if change == "channels_last":
        model = model.to(memory_format=torch.channels_last)
    if change == "bfloat16":
        model = model.bfloat16()
    if change == "frozen":
        model.requires_grad_(False)
    model.eval()
    model.layer2.train(change == "training")
    modes = [m.training for m in model.modules()]
    zoo.save_pretrained(model, tmp_path / "a")
    assert [m.training for m in model.modules()] == modes
    again = zoo.from_pretrained(tmp_path / "a")
    ours, theirs = model.state_dict(), again.state_dict()
    assert all(torch.equal(theirs[k].to(v.dtype), v) for k, v in ours.items())


def test_wrappers_are_seen_through(tmp_path):
    model = make()
    zoo.save_pretrained(nn.DataParallel(model), tmp_path / "a")
    zoo.save_pretrained(torch.compile(model), tmp_path / "b")
    for folder in "ab":
        assert same_state(zoo.from_pretrained(tmp_path / folder), model)


@pytest.mark.parametrize("change", ["none", "channels_last", "bfloat16"])
@pytest.mark.parametrize("size", ["5GB", "400KB"])
def test_parameters_tied_by_hand_are_saved_and_come_back_with_equal_values(tmp_path, change, size):
    model = zoo.create_model("medvit2_kan_nano")
    stem, mixer = model.get_submodule("stem.3.conv"), model.get_submodule("features.2.mhca.group_conv3x3")
    mixer.weight = stem.weight
    if change == "channels_last":
        model = model.to(memory_format=torch.channels_last)
    if change == "bfloat16":
        model = model.bfloat16()
    zoo.save_pretrained(model, tmp_path / "a", max_shard_size=size)
    again = zoo.create_model(f"local-dir:{tmp_path / 'a'}", dtype=stem.weight.dtype)
    assert same_state(again, model)
    ours, theirs = again.get_parameter("stem.3.conv.weight"), again.get_submodule("features.2.mhca.group_conv3x3")
    assert ours is not theirs.weight  # nothing in the constructor's arguments says so
    assert torch.equal(ours, stem.weight)


def test_a_model_that_its_arguments_do_not_tell_is_refused_and_nothing_is_left(tmp_path):
    model = make()
    model.blocks[0].mlp.act = nn.ReLU()
    with pytest.raises(MismatchError, match="its tensors are equal, but its output is not"):
        zoo.save_pretrained(model, tmp_path / "a")
    model = make()
    model.blocks[0].mlp.fc1 = nn.Linear(model.embed_dim, 7)
    with pytest.raises(MismatchError, match=r"is not the model: its arguments build .*fc1\.weight as .*, not \(7, "):
        zoo.save_pretrained(model, tmp_path / "a")
    model = make()
    model.extra = nn.Linear(2, 2)
    said = r"^the saved model, loaded again, is not the model: its arguments build no extra\.weight, extra\.bias\."
    with pytest.raises(MismatchError, match=said):
        zoo.save_pretrained(model, tmp_path / "a")
    model = make()
    model.head = nn.Identity()
    with pytest.raises(MismatchError, match=r"its arguments build head\.weight, head\.bias too"):
        zoo.save_pretrained(model, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_saved_is_refused_and_nothing_is_left(tmp_path):
    with pytest.raises(ConfigError, match="register_model"):
        zoo.save_pretrained(nn.Linear(2, 2), tmp_path / "a")
    model = make()
    with torch.no_grad():
        model.norm.weight[0] = float("inf")
    with pytest.raises(NonFiniteWeightsError, match=r"norm\.weight"):
        zoo.save_pretrained(model, tmp_path / "a")
    with pytest.raises(ValueError, match="'acc' must be a finite number"):
        zoo.save_pretrained(make(), tmp_path / "a", metrics={"acc": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_model_is_replaced_and_anything_else_is_not(tmp_path):
    zoo.save_pretrained(make(), tmp_path / "a", license="mit")
    card = tmp_path / "a/README.md"
    card.write_text("---\nlicense: cc0-1.0\n---\n\n# By hand\n")
    second = make(seed=2)
    zoo.save_pretrained(second, tmp_path / "a")
    assert same_state(zoo.from_pretrained(tmp_path / "a"), second)
    assert "# By hand" in card.read_text()
    assert ModelCard(card.read_text()).data.license == "cc0-1.0"
    (tmp_path / "a/notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"holds other files \(notes\.txt\)"):
        zoo.save_pretrained(second, tmp_path / "a")
    with pytest.raises(ValueError, match="is a file"):
        zoo.save_pretrained(second, card)
    assert (tmp_path / "a/notes.txt").read_text() == "mine"


@pytest.mark.parametrize("function", [zoo.save_pretrained, zoo.push_to_hub])
def test_wrong_calls_are_told_the_right_one(tmp_path, function):
    target = str(tmp_path / "a")
    with pytest.raises(TypeError, match=r"takes a model, got the name 'test_vit': .*create_model\('test_vit', "):
        function("test_vit", target)
    with pytest.raises(TypeError, match=r"takes a model, got dict: make one by zoo\.create_model"):
        function({}, target)
    with pytest.raises(TypeError, match=rf"{function.__name__} takes no argument 'licence'; did you mean 'license'"):
        function(make(), target, licence="mit")
    with pytest.raises(ValueError, match=r"no licence 'mitt'; did you mean 'mit'.*'other'"):
        function(make(), target, license="mitt")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file/a cannot be written \(.*\): choose another folder") as caught:
        zoo.save_pretrained(make(), tmp_path / "file/a")
    assert ".tmp" not in str(caught.value)


def test_what_a_run_measured_is_taken_as_its_file_says_it(tmp_path):
    measured = {"val": {"accuracy": 0.5}, "test": {"accuracy": 0.75, "auc": None, "confusion": [[1, 0], [0, 2]]}}
    metrics = json.loads(json.dumps({"best_epoch": 3, "classes": LABELS, **measured}))
    zoo.save_pretrained(make(), tmp_path / "a", metrics=metrics)
    block = json.loads((tmp_path / "a/config.json").read_text())["zoo"]
    assert block["metrics"] == [{"name": "accuracy", "value": 0.75, "split": "test"}]


def test_a_card_is_text_or_the_path_of_its_file(tmp_path):
    card = tmp_path / "c.md"
    card.write_text("---\nlicense: cc0-1.0\n---\n\n# By hand ä\n", "utf-8")
    zoo.save_pretrained(make(), tmp_path / "a", card=card)
    zoo.save_pretrained(make(), tmp_path / "b", card=card.read_text("utf-8"))
    written = (tmp_path / "a/README.md").read_text("utf-8")
    assert written == (tmp_path / "b/README.md").read_text("utf-8")
    assert ModelCard(written).data.license == "cc0-1.0"
    assert written.endswith("# By hand ä\n")


@pytest.mark.parametrize("function", [zoo.save_pretrained, zoo.push_to_hub])
def test_a_card_that_is_neither_is_refused_before_anything_is_written(tmp_path, function):
    latin = tmp_path / "latin.md"
    latin.write_bytes("# ä\n".encode("latin-1"))
    target = str(tmp_path / "a")
    with pytest.raises(FileNotFoundError, match=r"card: there is no file '.*nowhere\.md'"):
        function(make(), target, card=tmp_path / "nowhere.md", license="mit")
    with pytest.raises(
        ValueError, match=r"card='/nonexist\.md' looks like the name of a file.*pathlib\.Path\('/nonexi"
    ):
        function(make(), target, card="/nonexist.md", license="mit")
    with pytest.raises(ValueError, match=r"latin\.md is not text in UTF-8 \(.* at byte 2\)"):
        function(make(), target, card=latin, license="mit")
    with pytest.raises(TypeError, match=r"card is the text of a README\.md, or the path .*, got 5"):
        function(make(), target, card=5, license="mit")
    assert files_of(tmp_path) == {"latin.md"}


def files_of(folder):
    return {p.name for p in folder.iterdir()}


def test_large_weights_become_shards_that_load_and_are_saved_again_byte_for_byte(tmp_path):
    model = make()
    zoo.save_pretrained(model, tmp_path / "a", max_shard_size="400KB", license="mit")
    shards = {f"model-{i:05d}-of-00004.safetensors" for i in range(1, 5)}
    assert files_of(tmp_path / "a") == {"README.md", "config.json", "model.safetensors.index.json", *shards}
    recorded = json.loads((tmp_path / "a/config.json").read_text())["zoo"]["files"]
    assert recorded.keys() == shards
    again = zoo.from_pretrained(tmp_path / "a")
    assert same_state(model, again)
    zoo.save_pretrained(again, tmp_path / "b", max_shard_size=400_000, license="mit")
    for name in files_of(tmp_path / "a") - {"README.md"}:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    card = ModelCard((tmp_path / "a/README.md").read_text())
    assert card.data.library_name == "zoo"  # timm takes the first shard for the whole
    assert "timm does not read: load them with zoo" in card.text
    with pytest.raises(RuntimeError, match="Missing key"):
        timm.create_model(f"local-dir:{tmp_path / 'a'}", pretrained=True)


@pytest.mark.parametrize(("first", "second"), [("400KB", "5GB"), ("5GB", "400KB"), ("400KB", "700KB")])
def test_a_folder_saved_over_with_other_shards_holds_no_stale_weights(tmp_path, first, second):
    zoo.save_pretrained(make(seed=1), tmp_path / "a", max_shard_size=first)
    model = make(seed=2)
    zoo.save_pretrained(model, tmp_path / "a", max_shard_size=second)
    zoo.save_pretrained(model, tmp_path / "b", max_shard_size=second)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    assert same_state(zoo.from_pretrained(tmp_path / "a"), model)


@pytest.mark.parametrize("size", ["5 apples", 0, None])
def test_a_shard_size_that_is_none_is_refused_before_anything_is_written(tmp_path, size):
    for call in (zoo.save_pretrained, zoo.push_to_hub):
        with pytest.raises((ValueError, TypeError), match="max_shard_size"):
            call(make(), str(tmp_path / "a"), max_shard_size=size)
    assert list(tmp_path.iterdir()) == []


class Sharing(nn.Module):
    """A small model of every kind of sharing: tied, overlapping and expanded tensors."""

    def __init__(self, num_classes=3, in_chans=3):
        super().__init__()
        self.num_classes, self.in_chans, self.num_features = num_classes, in_chans, 8
        self.conv = nn.Conv2d(in_chans, 8, 3)
        self.up = nn.Linear(8, 8, bias=False)
        self.down = nn.Linear(8, 8, bias=False)
        self.down.weight = self.up.weight
        self.fc = nn.Linear(8, num_classes)
        table = torch.arange(12.0)
        self.register_buffer("head", table[:8])
        self.register_buffer("tail", table[4:])
        self.register_buffer("wide", torch.arange(8.0).expand(2, 8))

    def get_classifier(self):
        return self.fc

    def forward(self, x):
        x = self.conv(x).mean((2, 3)) + self.head + self.tail + self.wide.sum(0)
        return self.fc(self.down(self.up(x)))


@pytest.fixture
def sharing(monkeypatch):
    """The model above under a name, for one test."""
    registry = zoo.registry.default_registry()
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))

    @zoo.register_model(input_size=(3, 16, 16), cfg={"classifier": "fc", "first_conv": "conv"})
    def sharing_model(pretrained=False, **kwargs):
        keep = {k: v for k, v in kwargs.items() if k in ("num_classes", "in_chans")}
        return Sharing(**keep)

    yield "sharing_model"
    timm.models._registry._model_entrypoints.pop("sharing_model", None)


@pytest.mark.parametrize("size", ["5GB", "300B"])
@pytest.mark.parametrize("change", ["none", "channels_last", "half", "bfloat16", "double", "values"])
def test_shared_strided_and_narrow_tensors_come_back_as_they_were(tmp_path, sharing, change, size):
    torch.manual_seed(0)
    model = zoo.create_model(sharing)
    if change == "channels_last":
        model.to(memory_format=torch.channels_last)
        assert not model.conv.weight.is_contiguous()
    elif change in ("half", "bfloat16", "double"):
        model = getattr(model, change)()
    elif change == "values":
        model.wide = torch.randn(8, 2).t()
    zoo.save_pretrained(model, tmp_path / "a", max_shard_size=size)
    dtype = next(model.parameters()).dtype
    again = zoo.create_model(f"local-dir:{tmp_path / 'a'}", dtype=dtype)
    assert again.down.weight is again.up.weight
    ours, theirs = model.state_dict(), again.state_dict()
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert theirs[name].dtype == value.dtype
        assert torch.equal(theirs[name], value), name
        assert theirs[name].is_contiguous(), name
    for path in (tmp_path / "a").glob("*.safetensors"):
        assert all(tensor.is_contiguous() for tensor in load_file(path).values())
    written = set().union(*(load_file(path) for path in (tmp_path / "a").glob("*.safetensors")))
    assert written == ours.keys() - {"up.weight"}  # once, under its first name
