"""Reading config.json: ours, timm's, old ones; and what is wrong with broken ones."""

import json
from pathlib import Path

import pytest

from zoo.errors import ConfigError
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


def test_labels_may_leave_out_what_comes_before_them():
    data = plain(num_classes=6, model_args={"num_classes": 6})
    data["pretrained_cfg"]["label_offset"] = 1
    assert len(parse_config(data, "x").pretrained_cfg["label_names"]) == 5
    assert parse_config(plain(num_classes=0, model_args={}), "x").num_classes == 0
