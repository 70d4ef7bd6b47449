"""Composed models from the shell: created, described, trained, measured, asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import zoo
from tests.training.helpers import few_digits
from zoo.cli import _common, _words, app
from zoo.composition import SLOTS

QUICK = ["--epochs", "1", "--batch-size", "16", "--img-size", "32", "--lr", "0.001", "--quiet"]
LAST = {"type": "kan", "where": "last:2"}


def invoke(*args: object, code: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(app, [str(a) for a in args])
    assert result.exit_code == code, result.output + str(result.exception)
    return result.stdout, result.stderr


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few digits as an image folder with splits."""
    root = tmp_path_factory.mktemp("digits")
    for name, split in few_digits(train=60, val=40, test=40).present().items():
        for i in range(len(split)):
            folder = root / name / split.classes[split.labels[i]]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(split.image(i)).save(folder / f"{i}.png")
    return root


# --- zoo create -------------------------------------------------------------------------------------------------------


def test_create_prints_what_it_is_and_saves_it(tmp_path: Path) -> None:
    saved, spec_file = tmp_path / "m", tmp_path / "spec.json"
    options = ["--num-classes", 9, "--in-chans", 1, "--model-arg", "drop_rate=0.1"]
    parts = ["--mlp", json.dumps(LAST), "--head", "kan"]
    out, err = invoke("create", "test_vit", *parts, *options, "--save", saved, "--spec-out", spec_file)
    model = zoo.create_model(f"local-dir:{saved}")
    table, _, spec = out.partition("\n\n{")
    same = zoo.create_model("test_vit", mlp=LAST, head="kan", num_classes=9, in_chans=1, drop_rate=0.1)
    assert table == str(zoo.summary(same))
    assert json.loads("{" + spec) == json.loads(spec_file.read_text())
    assert json.loads(spec_file.read_text()) == {
        "base": "test_vit",
        "mlp": LAST,
        "head": {"type": "kan"},
        "drop_rate": 0.1,
        "in_chans": 1,
        "num_classes": 9,
    }
    assert f"use it as local-dir:{saved}" in err
    again = json.loads(invoke("create", spec_file, "--act", "silu", "--json")[0])
    assert again["spec"] == {**json.loads(spec_file.read_text()), "act": {"type": "silu"}}
    assert again["params"] == sum(p.numel() for p in model.parameters())
    assert [c["path"] for c in again["changes"] if c["slot"] == "mlp"] == ["blocks.4.mlp", "blocks.5.mlp"]
    loaded = json.loads(invoke("create", saved, "--weights", saved / "model.safetensors", "--json")[0])
    assert loaded["spec"] == model.zoo_spec
    assert (loaded["spec"]["mlp"], loaded["spec"]["num_classes"]) == (LAST, 9)


def test_create_of_a_plain_model_and_of_a_name(tmp_path: Path) -> None:
    plain = json.loads(invoke("create", "test_resnet", "--num-classes", 3, "--head", "none", "--json")[0])
    assert plain["spec"] == {"base": "test_resnet", "num_classes": 3, "in_chans": 3, "global_pool": "avg"}
    assert plain["changes"] == []
    (tmp_path / "own.json").write_text('{"base": "test_resnet", "head": "kan"}')
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "photo.png").write_bytes(b"mine")
    _, err = invoke("create", tmp_path / "own.json", "--save", tmp_path / "m", code=1)
    assert "holds other files (photo.png)" in err
    assert (tmp_path / "m" / "photo.png").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("args", "message", "code"),
    [
        (["test_resnet", "--head", "kann"], "error: unknown module 'head/kann'; did you mean 'head/kan'", 1),
        (["test_resnet", "--mlp", "kan"], "error: test_resnet has no mlp that can be replaced", 1),
        (["test_resnett", "--head", "kan"], "error: unknown model 'test_resnett'; did you mean 'test_resnet'", 1),
        (["test_vit", "--mlp", '{"type": "kan", "where": "last:9"}'], "asks for 9 places", 1),
        (["test_vit", "--mlp", '{"type": "kan", "ratio": 2}'], "error: mlp/kan takes no argument 'ratio'", 1),
        (["no.json"], "error: there is no file 'no.json'", 1),
        (["list.json"], "error: list.json must hold an object", 1),
        (["broken.json"], "error: cannot read broken.json: ", 1),
        (["empty.json"], "error: a spec needs a 'base'", 1),
        (["saved/config.json"], "config.json describes a saved model and is no spec: write local-dir:saved", 1),
        (["nothing"], "the folder nothing holds no saved model (no config.json): that of one is local-dir:FOLDER", 1),
        (["test_resnet", "--head", ""], "--head: it is empty: name a module (zoo list --kind head), or 'none'", 2),
        (["test_resnet", "--head", "kan,linear"], "are 2 choices; one is wanted here", 2),
        (["test_resnet", "--head", '{"type": kan}'], "is not JSON", 2),
        (["test_resnet", "--num-classes", "many"], "for '--num-classes'", 2),
    ],
)
def test_errors_of_create_are_one_line(
    args: list[str], message: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in {"list": "[]", "broken": "{", "empty": "{}"}.items():
        (tmp_path / f"{name}.json").write_text(text)
    for folder in ("saved", "nothing"):
        (tmp_path / folder).mkdir()
    (tmp_path / "saved" / "config.json").write_text('{"architecture": "test_resnet", "num_classes": 3}')
    _, err = invoke("create", *args, "--save", "m", code=code)
    assert message in " ".join(err.replace("│", " ").split())
    assert code == 2 or len(err.strip().splitlines()) == 1
    assert not (tmp_path / "m").exists()


def test_create_takes_a_saved_models_folder(tmp_path: Path) -> None:
    invoke("create", "test_resnet", "--head", "kan", "--num-classes", 3, "--save", tmp_path / "m")
    spec = json.loads(invoke("create", tmp_path / "m", "--json")[0])["spec"]
    assert spec == json.loads(invoke("create", f"local-dir:{tmp_path / 'm'}", "--json")[0])["spec"]
    assert spec["head"] == {"type": "kan"}


def test_an_empty_part_of_train(digits: Path) -> None:
    _, err = invoke("train", "test_resnet", digits, "--head", "", code=2)
    assert "--head: it is empty" in " ".join(err.split())


# --- zoo train, eval, predict -----------------------------------------------------------------------------------------


def test_train_with_other_parts_then_measure_and_ask(digits: Path, tmp_path: Path) -> None:
    parts = ["--head", "kan", "--act", '{"type": "silu"}', "--pool", "none"]
    out, _ = invoke("train", "test_resnet", digits, "--out", tmp_path / "run", *QUICK, *parts, "--json")
    model = zoo.create_model(f"local-dir:{tmp_path / 'run' / 'best'}")
    assert model.zoo_spec["head"] == {"type": "kan"}
    assert model.zoo_spec["act"] == {"type": "silu"}
    assert any(isinstance(m, torch.nn.SiLU) for m in model.modules())
    measured = json.loads(invoke("eval", tmp_path / "run", digits, "--json")[0])
    assert measured["accuracy"] == json.loads(out)["accuracy"]
    image = next((digits / "test" / "3").glob("*.png"))
    (answer,) = json.loads(invoke("predict", tmp_path / "run", image, "--top", 10, "--json")[0])
    assert sum(best["probability"] for best in answer["top"]) == pytest.approx(1, abs=1e-5)
    # Written in another way it is the same run; another module is another.
    same = ["--head", '{"type": "head/kan"}', "--act", "silu"]
    again, _ = invoke("train", "test_resnet", digits, "--out", tmp_path / "run", *QUICK, *same, "--json")
    assert json.loads(again) == json.loads(out)
    _, err = invoke("train", "test_resnet", digits, "--out", tmp_path / "run", *QUICK, "--act", "silu", code=1)
    assert "model_args was {'act': {'type': 'silu'}, 'head': {'type': 'kan'}}, is {'act': {'type': 'silu'}}" in err


def test_parts_in_a_file(digits: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('act = "silu"\nhead = {type = "kan", grid_size = 4}\nmodel_args = {drop_rate = 0.1}\n')
    invoke("train", "test_resnet", digits, "--out", tmp_path / "run", *QUICK, "--config", recipe, "--act", "none")
    stored = json.loads((tmp_path / "run" / "args.json").read_text())["options"]["model_args"]
    assert stored == {"drop_rate": 0.1, "head": {"type": "kan", "grid_size": 4}}


@pytest.mark.parametrize(
    ("args", "message", "code"),
    [
        (["--head", "kann"], "error: unknown module 'head/kann'; did you mean 'head/kan'", 1),
        (["--mlp", "kan"], "error: test_resnet has no mlp that can be replaced", 1),
        (["--head", '{"type": "kan", "grid_sise": 2}'], "takes no argument 'grid_sise'; did you mean", 1),
        (["--head", "kan,linear"], "are 2 choices; one is wanted here", 2),
    ],
)
def test_errors_of_parts(args: list[str], message: str, code: int, tmp_path: Path) -> None:
    _, err = invoke("train", "test_resnet", "digits", "--out", tmp_path / "run", *QUICK, *args, code=code)
    assert message in " ".join(err.replace("│", " ").split())
    assert not (tmp_path / "run").exists()


# --- zoo list, zoo info -----------------------------------------------------------------------------------------------


def facts(name: object) -> dict[str, Any]:
    return json.loads(invoke("info", name, "--json")[0])


def test_list_knows_bases_and_modules() -> None:
    rows = {line.split("\t")[0]: line.split("\t") for line in invoke("list")[0].splitlines()}
    assert rows["resnet18_kan_head"][4] == "resnet18"
    assert rows["medvit2_kan_nano"][4] == "–"
    used = [line.split("\t")[0] for line in invoke("list", "--uses", "pool/avg")[0].splitlines()]
    assert used == zoo.list_models(uses="pool/avg")
    assert {"vit_tiny_kan_avg", "vit_tiny_r_s16_kan"} <= set(used)
    assert "did you mean 'pool/avg'" in invoke("list", "--uses", "pool/avgg", code=1)[1]
    assert invoke("list", "--uses", "act/mish") == ("", "no model matches --uses act/mish\n")


def test_info_of_a_composition_by_name_and_of_a_saved_one(tmp_path: Path) -> None:
    lines = dict(line.split(maxsplit=1) for line in invoke("info", "convnext_atto_kan")[0].splitlines())
    assert lines["base"] == "convnext_atto (of timm)"
    assert lines["mlp"].startswith("mlp/kan, in the places named stages.3.*, hidden_ratio 0.5: ")
    assert lines["head"].startswith("head/kan: ")
    assert "args" not in lines
    by_name = facts("convnext_atto_kan")
    assert by_name["parts"]["mlp"] == {
        "module": "mlp/kan",
        "where": "stages.3.*",
        "init": None,
        "options": {"hidden_ratio": 0.5},
    }
    model = zoo.create_model("test_vit", mlp={**LAST, "init": "own"}, num_classes=4)
    zoo.save_pretrained(model, tmp_path / "m")
    saved = facts(tmp_path / "m")
    assert saved["base"] == "test_vit"
    assert saved["parts"] == {"mlp": {"module": "mlp/kan", "where": "last:2", "init": "own", "options": {}}}
    shown = invoke("info", tmp_path / "m")[0]
    assert "mlp/kan, in the last 2 places, begins anew: " in shown


def test_info_of_a_module() -> None:
    known = facts("head/kan")
    assert known["options"]["basis"] == "gaussian"
    assert known["contract"]["call"] == "(*, in) -> (*, out)"
    shown = invoke("info", "head/kan")[0]
    assert "built as          (in_features, out_features, *, bias=True, device=None, dtype=None)" in shown
    assert "basis='gaussian'" in shown
    assert "basis: str = 'gaussian'" in shown


def test_info_of_a_model_of_timms() -> None:
    known = facts("resnet18")
    assert known["params"] == sum(p.numel() for p in zoo.create_model("resnet18").parameters())
    assert {slot: found["places"] for slot, found in known["replaceable"].items()} == {"act": 17, "pool": 1, "head": 1}
    assert known["replaceable"]["head"]["paths"] == ["fc"]
    assert "a1_in1k" in known["checkpoints"]
    assert known["source"].startswith("timm ")
    shown = invoke("info", "test_vit")[0]
    assert "mlp (6 places, blocks.0.mlp … blocks.5.mlp), mixer (6 places" in shown
    assert "did you mean 'a1_in1k'" in invoke("info", "resnet18.a1_in1", code=1)[1]
    assert "did you mean 'resnet18'" in invoke("info", "resnet181", code=1)[1]


def test_words_agree_with_the_composer() -> None:
    """What the shell says without torch is what the composer has."""
    assert _common.SLOTS == SLOTS
    assert _words.where_in_words([0, -1]) == "in places 0, -1 (counted from 0)"
    assert _words.where_in_words("first:1") == "in the first place"
    assert _words.composed_of({"base": "a", "head": "circuit/x"})[1]["head"]["module"] == "circuit/x"
    assert _words.composed_of({"dims": [1]}) == (None, {})
