"""Where weights come from: files, folders, dicts; and what is refused."""

import argparse
import hashlib
import json
import os
import pickle
from pathlib import Path

import pytest
import torch

import zoo
from zoo.errors import (
    ChecksumError,
    ConfigError,
    CorruptFileError,
    MissingFileError,
    NonFiniteWeightsError,
    PickleRefusedError,
    UnknownModelError,
    WeightsError,
)
from zoo.weights import open_checkpoint, save_safetensors
from zoo.weights.source import choose_weights, open_folder

NANO = "medvit2_kan_nano"
STATE = {"w": torch.arange(4.0), "b": torch.ones(2)}


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (Path.touch, (Path(self.target),))


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder


def same(tensors, expected=STATE):
    return tensors.keys() == expected.keys() and all(torch.equal(tensors[k], v) for k, v in expected.items())


def test_a_file_a_folder_local_dir_and_a_dict_give_the_same_tensors(folder):
    path = folder / "model.safetensors"
    digest = save_safetensors(STATE, path)
    for source in (path, str(path), folder, f"local-dir:{folder}", f"LOCAL-DIR:{path}", STATE, {"state_dict": STATE}):
        assert same(open_checkpoint(source).tensors)
    assert same(open_checkpoint(path, sha256=digest).tensors)
    assert same(open_checkpoint(path, copy=True).tensors)


def test_a_wrong_sum_is_an_error_and_a_dict_has_none(folder):
    save_safetensors(STATE, folder / "model.safetensors")
    with pytest.raises(ChecksumError, match="expected SHA-256 00"):
        open_checkpoint(folder, sha256="00" * 32)
    with pytest.raises(ValueError, match="state dict in memory has none"):
        open_checkpoint(STATE, sha256="00" * 32)


def test_missing_paths_are_named_with_what_is_near(folder, monkeypatch):
    save_safetensors(STATE, folder / "best.safetensors")
    with pytest.raises(FileNotFoundError, match=r"bst\.safetensors.*did you mean 'best\.safetensors'"):
        open_checkpoint(folder / "bst.safetensors")
    with pytest.raises(FileNotFoundError, match=r"holds best\.safetensors"):
        open_checkpoint(folder / "q")
    with pytest.raises(FileNotFoundError, match="does not exist either"):
        open_checkpoint(folder / "no" / "thing.safetensors")
    monkeypatch.chdir(folder)
    with pytest.raises(FileNotFoundError, match="'hf-hub:user/repo'"):
        open_checkpoint("user/repo")


def test_what_is_missing_is_an_error_of_ours_and_of_python_s(folder):
    for missing in (folder / "nothing", folder):
        with pytest.raises(MissingFileError) as caught:
            open_checkpoint(missing)
        for kind in (zoo.ZooError, WeightsError, FileNotFoundError, OSError):
            assert isinstance(caught.value, kind)
        assert str(folder) in str(caught.value)


def test_a_checkpoint_of_ours_is_a_source_by_its_name(folder, monkeypatch):
    model = zoo.create_model(NANO)
    report = zoo.load_weights(model, f"{NANO}.digits")
    wanted = zoo.create_model(NANO, pretrained=True).state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in model.state_dict().items())
    assert report.loaded == list(wanted)
    assert open_checkpoint(NANO).tensors.keys() == wanted.keys()
    with pytest.raises(UnknownModelError, match="'digits'"):
        open_checkpoint(f"{NANO}.digit")
    with pytest.raises(WeightsError, match="no pretrained weights for 'medvit2_kan_tiny'"):
        open_checkpoint("medvit2_kan_tiny")
    with pytest.raises(ChecksumError, match="expected SHA-256 00"):
        open_checkpoint(NANO, sha256="00" * 32)
    monkeypatch.chdir(folder)
    with pytest.raises(MissingFileError, match="no weights file"):
        open_checkpoint(f"{NANO}.safetensors")
    with pytest.raises(MissingFileError, match=r"timm's weights are .*'resnet50\.a1_in1k', pretrained=True"):
        open_checkpoint("resnet50.a1_in1k")
    save_safetensors(STATE, folder / NANO / "model.safetensors")
    assert open_checkpoint(NANO).tensors.keys() == STATE.keys()  # what is there comes first


def test_shards_without_their_index_are_told(folder):
    for k in (1, 2):
        save_safetensors(STATE, folder / f"model-0000{k}-of-00002.safetensors")
    said = r"lacks model\.safetensors\.index\.json, .*model-00001-of-00002\.safetensors"
    with pytest.raises(MissingFileError, match=said):
        open_checkpoint(folder)
    assert choose_weights(["model-00001-of-00001.safetensors"], "x", allow_pickle=False).startswith("model-00001")


def test_other_kinds_of_source_are_told(folder):
    with pytest.raises(TypeError, match="got int"):
        open_checkpoint(3)
    (folder / "weights.onnx").write_bytes(b"x")
    with pytest.raises(WeightsError, match="not a weights file"):
        open_checkpoint(folder / "weights.onnx")


def test_values_that_are_not_finite_are_refused_from_file_and_dict(folder):
    bad = {"fine": torch.ones(2), "head.weight": torch.tensor([1.0, float("inf")])}
    save_safetensors(bad, folder / "model.safetensors", check_finite=False)
    for source in (bad, folder):
        with pytest.raises(NonFiniteWeightsError, match=r"'head\.weight'"):
            open_checkpoint(source)
        assert same(open_checkpoint(source, check_finite=False).tensors, bad)


def test_pickles_are_refused_and_not_opened(folder, monkeypatch):
    touched = folder.parent / "touched"
    torch.save({"w": Bomb(touched)}, folder / "pytorch_model.bin")
    for source in (folder, folder / "pytorch_model.bin"):
        with pytest.raises(PickleRefusedError, match="allow_pickle=True") as caught:
            open_checkpoint(source)
        assert "zoo convert" in str(caught.value)
    for allowed in ({"allow_pickle": True}, {}):
        monkeypatch.setenv("ZOO_ALLOW_PICKLE", "" if allowed else "1")
        with pytest.raises(PickleRefusedError, match="weights_only=True"):
            open_checkpoint(folder, **allowed)
    assert not touched.exists()


def test_a_plain_pickle_of_tensors_is_read_when_asked_for(folder, monkeypatch):
    torch.save({"state_dict": STATE, "args": argparse.Namespace(lr=0.1)}, folder / "last.pth.tar")
    assert same(open_checkpoint(folder, allow_pickle=True).tensors)
    monkeypatch.setenv("ZOO_ALLOW_PICKLE", "1")
    assert same(open_checkpoint(folder / "last.pth.tar").tensors)
    monkeypatch.setenv("ZOO_ALLOW_PICKLE", "0")
    with pytest.raises(PickleRefusedError):
        open_checkpoint(folder / "last.pth.tar")


def test_averaged_weights_of_a_training_checkpoint_win(folder):
    averaged = {k: v + 1 for k, v in STATE.items()}
    torch.save({"state_dict": STATE, "state_dict_ema": averaged}, folder / "last.pth")
    assert same(open_checkpoint(folder, allow_pickle=True).tensors, averaged)
    assert same(open_checkpoint(folder, allow_pickle=True, use_ema=False).tensors)


def test_a_broken_pickle_is_a_corrupt_file(folder):
    torch.save(STATE, folder / "model.pth")
    data = (folder / "model.pth").read_bytes()
    (folder / "model.pth").write_bytes(data[: len(data) // 2])
    with pytest.raises(CorruptFileError, match=r"model\.pth \([\d,]+ bytes\)"):
        open_checkpoint(folder, allow_pickle=True)


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["pytorch_model.bin", "model.safetensors", "a.safetensors"], "model.safetensors"),
        (["model.safetensors.index.json", "model-00001-of-00002.safetensors"], "model.safetensors.index.json"),
        (["open_clip_model.safetensors", "a.safetensors"], "open_clip_model.safetensors"),
        (["best.safetensors", "pytorch_model.bin", "config.json"], "best.safetensors"),
    ],
)
def test_the_weights_of_a_folder_are_chosen_as_timm_does_but_never_a_pickle(names, chosen):
    assert choose_weights(sorted(names), "x", allow_pickle=False) == chosen


def test_several_files_are_read_with_a_warning_and_none_is_an_error():
    with pytest.warns(UserWarning, match=r"a\.safetensors is read"):
        assert choose_weights(["a.safetensors", "b.safetensors"], "x", allow_pickle=False) == "a.safetensors"
    with pytest.raises(FileNotFoundError, match=r"found notes\.txt"):
        choose_weights(["notes.txt"], "x", allow_pickle=True)
    assert choose_weights(["a.pth", "pytorch_model.bin"], "x", allow_pickle=True) == "pytorch_model.bin"


def shards(folder, homes, *, files=None):
    for name in sorted(set(homes.values()) if files is None else files):
        save_safetensors({k: STATE[k] for k, v in homes.items() if v == name}, folder / name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": homes}))


HOMES = {"w": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}


def test_shards_are_joined(folder):
    shards(folder, HOMES)
    assert same(open_folder(folder).tensors)


def test_shards_that_are_missing_or_elsewhere_or_disagree_are_refused(folder, tmp_path):
    shards(folder, HOMES, files=[HOMES["w"]])
    with pytest.raises(CorruptFileError, match=r"lacks model-00002-of-00002\.safetensors"):
        open_folder(folder)
    shards(folder, HOMES)
    save_safetensors({"b": STATE["b"], "more": STATE["b"].clone()}, folder / HOMES["b"])
    with pytest.raises(CorruptFileError, match="disagree about more"):
        open_folder(folder)
    index = folder / "model.safetensors.index.json"
    for bad in ("../outside.safetensors", "/etc/passwd", "pytorch_model.bin", 3):
        index.write_text(json.dumps({"weight_map": {"w": bad}}))
        with pytest.raises(ConfigError, match="not a safetensors file beside it"):
            open_folder(folder)
    for bad in ("[]", '{"weight_map": 3}', "{}", '{"weight_map": {}}'):
        index.write_text(bad)
        with pytest.raises(ConfigError, match="not an index of shards"):
            open_folder(folder)
    index.write_text("{")
    with pytest.raises(ConfigError, match="not valid JSON"):
        open_folder(folder)


def test_a_shard_that_the_index_does_not_name_is_refused(folder):
    shards(folder, HOMES)
    save_safetensors(STATE, folder / "model-00003-of-00003.safetensors")
    with pytest.raises(CorruptFileError, match=r"holds model-00003-of-00003\.safetensors, which its .* does not name"):
        open_folder(folder)


def write_recorded(folder, names):
    facts = {name: {"sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest()} for name in names}
    config = {"architecture": "x", "pretrained_cfg": {}, "zoo": {"files": facts}}
    (folder / "config.json").write_text(json.dumps(config))


def test_the_sum_of_every_shard_is_checked(folder):
    shards(folder, HOMES)
    write_recorded(folder, set(HOMES.values()))
    assert same(open_folder(folder).tensors)
    for name in HOMES.values():
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(ChecksumError, match=name):
            open_folder(folder)
        (folder / name).write_bytes(data)


def test_weights_whose_sums_are_not_recorded_do_not_pass_beside_those_that_are(folder):
    shards(folder, HOMES)
    write_recorded(folder, [HOMES["w"]])
    with pytest.raises(CorruptFileError, match=f"does not record {HOMES['b']}"):
        open_folder(folder)
    save_safetensors(STATE, folder / "model.safetensors")
    with pytest.raises(CorruptFileError, match=f"records {HOMES['w']} and does not record model.safetensors"):
        open_folder(folder)


def test_the_sum_recorded_in_the_config_is_checked(folder):
    digest = save_safetensors(STATE, folder / "model.safetensors")
    config = {"architecture": "x", "pretrained_cfg": {}, "zoo": {"files": {"model.safetensors": {"sha256": digest}}}}
    (folder / "config.json").write_text(json.dumps(config))
    checkpoint = open_folder(folder)
    assert same(checkpoint.tensors)
    assert checkpoint.config is not None
    assert checkpoint.config.architecture == "x"
    with open(folder / "model.safetensors", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x01")
    with pytest.raises(ChecksumError, match=r"model\.safetensors"):
        open_folder(folder)
    with pytest.raises(
        ChecksumError, match=f"^{folder}/model.safetensors is not the recorded file: expected SHA-256 {digest}"
    ):
        open_checkpoint(folder / "model.safetensors")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"zoo": 1}', '{"zoo": {"files": {"model.safetensors": 1}}}'])
def test_a_config_that_records_no_sum_does_not_hinder_reading_a_file_by_its_path(folder, text):
    save_safetensors(STATE, folder / "model.safetensors")
    (folder / "config.json").write_text(text)
    assert same(open_checkpoint(folder / "model.safetensors").tensors)


def test_a_bare_pickle_stream_is_no_safetensors_file(folder):
    (folder / "model.safetensors").write_bytes(pickle.dumps(Bomb(folder / "touched")))
    with pytest.raises(CorruptFileError):
        open_checkpoint(folder)
    assert not (folder / "touched").exists()
