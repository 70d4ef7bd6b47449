"""Reading config.json: ours, timm's, old ones; and what is wrong with broken ones."""

import json
import re
from pathlib import Path

import pytest

from zoo.errors import ConfigError
from zoo.models.data_config import CROP_MODES, INTERPOLATIONS
from zoo.weights import read_config
from zoo.weights.config import parse_config

GOLDEN = Path(__file__).parents[1] / "golden/platform/config_timm_plain.json"


def plain(**changes):
    return json.loads(GOLDEN.read_text()) | changes


def test_reads_what_timm_writes():
    config = read_config(GOLDEN)
    assert config.architecture == "test_resnet"
    assert config.model_args == {"num_classes": 5, "in_chans": 3, "global_pool": "avg"}
    assert config.num_classes == 5
    assert config.in_chans == 3
    assert config.pretrained_cfg["label_names"] == ("a", "b", "c", "d", "e")
    assert config.pretrained_cfg["input_size"] == (3, 160, 160)
    assert config.pretrained_cfg["first_conv"] == "conv1.0"
    assert config.zoo == {}
    assert config.files == {}


def test_reads_the_flat_form_of_old_timm():
    flat = {
        "architecture": "resnet18",
        "num_classes": 2,
        "labels": ["no", "yes"],
        "num_features": 512,
        "mean": [0, 0, 0],
    }
    config = parse_config(flat, "x")
    assert config.architecture == "resnet18"
    assert config.model_args == {}
    assert config.pretrained_cfg == {"num_classes": 2, "label_names": ("no", "yes"), "mean": (0, 0, 0)}


def test_the_constructor_s_arguments_win_over_old_source_metadata():
    config = parse_config(plain(model_args={"in_chans": 1, "img_size": 28}), "x")
    assert config.pretrained_cfg["input_size"] == (1, 28, 28)


def test_source_fields_are_never_taken_from_a_file():
    data = plain()
    data["pretrained_cfg"] |= {"url": "http://x", "hf_hub_id": "a/b", "file": "/etc/passwd", "source": "url"}
    assert not {"url", "hf_hub_id", "file", "source"} & parse_config(data, "x").pretrained_cfg.keys()


def test_unknown_fields_are_dropped_with_a_warning_that_names_the_writer():
    data = plain(zoo={"format": 1, "version": "9.9"}, something={"else": 1})
    data["pretrained_cfg"]["flux"] = 3
    with pytest.warns(UserWarning, match=r"config\.json of a/b \(written by zoo 9\.9\).*flux"):
        config = parse_config(data, "config.json of a/b")
    assert "flux" not in config.pretrained_cfg


def test_a_format_from_the_future_says_what_to_upgrade():
    with pytest.raises(ConfigError) as caught:
        parse_config(plain(zoo={"format": 2, "version": "3.0"}), "config.json of a/b@main")
    for part in ("a/b@main", "format 2", "zoo 3.0", "pip install -U"):
        assert part in str(caught.value)


def test_broken_json_names_file_line_and_repository(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{\n  "architecture": "x",\n  oops\n}')
    with pytest.raises(ConfigError, match=r"config\.json of a/b@v1 is not valid JSON: .* in line 3, column 3"):
        read_config(tmp_path, origin="a/b@v1")
    with pytest.raises(ConfigError, match="line 3"):
        read_config(path)
    path.write_bytes(b"{\xff}")
    with pytest.raises(ConfigError, match="not UTF-8 text: invalid start byte at byte 1"):
        read_config(path)


def test_a_folder_without_config_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no config\.json in .*not a published model"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], "holds a list"),
        ({}, "names no architecture"),
        (plain(architecture=3), "names no architecture"),
        (plain(pretrained_cfg=[1]), "'pretrained_cfg' is a list"),
        (plain(model_args="x"), "'model_args' is a str"),
        (plain(zoo=1), "'zoo' is a int"),
        (plain(zoo={"format": "1"}), "whole number"),
        (plain(zoo={"format": 0}), "whole number"),
        (plain(num_classes=-1), "num_classes"),
        (plain(num_classes="5"), "num_classes"),
        (plain(label_names=["a", "b"]), "2 label_names for num_classes 5; correct one of them"),
        (plain(label_names="abcde"), "label_names must be a list"),
        (plain(pretrained_cfg={"input_size": [3, 160]}), "input_size"),
        (plain(pretrained_cfg={"input_size": [3, 0, 160]}), "input_size"),
        (plain(pretrained_cfg={"input_size": "big"}), "input_size"),
    ],
)
def test_wrong_types_are_refused_with_the_place(data, said):
    with pytest.raises(ConfigError, match=said) as caught:
        parse_config(data, "config.json of a/b")
    assert "config.json of a/b" in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("std", [0.5, 0, 0.5], r"std must be .* above 0 \(from 1e-06 to 1,000,000\), got \(0\.5, 0, 0\.5\)"),
        ("std", -1, "std must be .*, got -1"),
        ("std", [1e-9] * 3, "std must be"),
        ("mean", [1e9] * 3, "mean must be .* from -1,000,000 to 1,000,000, got"),
        ("mean", [], r"mean must be a list of numbers, one a channel.*got \(\)"),
        ("interpolation", "foo", "one of nearest, bilinear, bicubic, lanczos, box, hamming, random, got 'foo'"),
        ("crop_mode", "foo", "crop_mode must be one of center, squash, border, canvas, got 'foo'"),
        ("crop_pct", 1e9, "above 0 and at most 10, got 1000000000.0"),
        ("input_size", [3, 1e9, 1e9], "whole numbers from 1 to 1,000,000, got"),
        ("num_classes", 10**12, "from 0 to 2,147,483,647, got 1000000000000"),
    ],
)
def test_preparation_that_cannot_be_is_refused_with_what_can(field, value, said):
    data = plain() if field != "num_classes" else plain(num_classes=value)
    data["pretrained_cfg"][field] = value
    with pytest.raises(ConfigError, match=rf"config\.json of a/b: {field} must.*") as caught:
        parse_config(data, "config.json of a/b")
    assert re.search(said, str(caught.value))


@pytest.mark.parametrize("field", ["interpolation", "crop_mode"])
def test_every_way_of_preparation_of_ours_is_read_again(field):
    data = plain()
    for value in {"interpolation": INTERPOLATIONS, "crop_mode": CROP_MODES}[field]:
        data["pretrained_cfg"][field] = value
        assert parse_config(data, "x").pretrained_cfg[field] == value


@pytest.mark.parametrize(
    ("labels", "read"),
    [
        ({"0": "a", "1": "b", "2": "c", "3": "d", "4": "e"}, tuple("abcde")),
        ({"4": "e", "2": "c", "0": "a", "1": "b", "3": "d"}, tuple("abcde")),
        ({"0": "a", "3": "d"}, ("a", "1", "2", "d", "4")),
        ({"0": "a", "1": "b"}, ("a", "b", "2", "3", "4")),
        ({}, None),
    ],
)
def test_labels_by_class_number_are_read_in_the_order_of_the_classes(labels, read):
    config = parse_config(plain(label_names=labels), "x")
    assert config.pretrained_cfg["label_names"] == read
    assert config.remarks == []


def test_labels_by_class_number_may_leave_out_the_background():
    data = plain(num_classes=3, model_args={}, label_names={"0": "a", "1": "b"})
    data["pretrained_cfg"]["label_offset"] = 1
    assert parse_config(data, "x").pretrained_cfg["label_names"] == ("a", "b")


@pytest.mark.parametrize("labels", [{"cat": "0"}, {"0": "a", "5": "f"}, {"0": "a", "00": "b"}, {"-1": "a"}])
def test_labels_by_what_is_no_class_number_are_left_out_and_told(labels):
    config = parse_config(plain(label_names=labels), "config.json of a/b")
    assert "label_names" not in config.pretrained_cfg
    (remark,) = config.remarks
    assert "config.json of a/b: label_names are left out" in remark
    assert "class numbers below 5" in remark


def test_few_labels_for_very_many_classes_take_no_memory():
    data = plain(num_classes=2**31 - 1, model_args={}, label_names={"0": "a"})
    assert len(parse_config(data, "x").remarks) == 1


def test_what_is_not_recorded_of_the_preparation_is_told_with_what_is_taken():
    data = plain()
    data["pretrained_cfg"] |= {"mean": None, "std": [0.5] * 3}
    (remark,) = parse_config(data, "config.json of a/b").remarks
    assert "config.json of a/b does not say" in remark
    assert "mean=(0.485, 0.456, 0.406)" in remark
    assert "std" not in remark
    (remark,) = parse_config(plain(pretrained_cfg=None), "x").remarks
    for part in ("input_size=(3, 224, 224)", "interpolation='bicubic'", "crop_pct=0.875", "std=…"):
        assert part in remark
    config = parse_config(plain(pretrained_cfg=None, model_args={"img_size": 32}), "x")
    assert config.pretrained_cfg["input_size"] == (3, 32, 32)
    assert "input_size" not in config.remarks[0]


def test_labels_may_leave_out_what_comes_before_them():
    data = plain(num_classes=6, model_args={"num_classes": 6})
    data["pretrained_cfg"]["label_offset"] = 1
    assert len(parse_config(data, "x").pretrained_cfg["label_names"]) == 5
    assert parse_config(plain(num_classes=0, model_args={}), "x").num_classes == 0
