"""Training, measuring and asking a model of sequences: by the calls and by the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import zoo
from zoo.cli import app
from zoo.errors import DataError
from zoo.training.data.source import open_splits

RUN: dict[str, Any] = {"batch_size": 32, "weight_decay": 1e-4, "warmup_epochs": 0, "progress": False}


def test_the_uniform_path_tells_peptides_apart(tmp_path: Path) -> None:
    result = zoo.finetune(
        "qtn_uptn_aa", "peptides", out=tmp_path / "run", epochs=40, lr=0.03, model_args={"max_len": 24}, **RUN
    )
    assert sum(p.numel() for p in result.model.parameters()) == 74
    assert result.test_metrics is not None
    assert result.test_metrics["accuracy"] >= 0.83
    assert zoo.evaluate(tmp_path / "run", "peptides", progress=False)["accuracy"] == result.metrics["accuracy"]
    # What was saved knows its words and its classes.
    answers = zoo.predict(tmp_path / "run", ["GIGKFLHSAKKFGKAFVGEIMNS", "LLVVIAVALLIVGLVAL"])
    assert [answer["label"] for answer in answers] == ["AMP", "TM"]
    assert [answer["sequence"] for answer in answers] == ["0", "1"]
    assert sum(one["probability"] for one in answers[0]["top"]) == pytest.approx(1)
    page = zoo.report(tmp_path / "run").read_text()
    assert "sequences" in page
    wrong = [text for text in open_splits("peptides").present()["test"].texts if text in page]  # type: ignore[attr-defined]
    assert wrong  # mistakes are shown by their letters


def test_a_run_that_was_cut_off_ends_in_the_same_weights(tmp_path: Path) -> None:
    options = {**RUN, "epochs": 2, "lr": 0.01, "model_args": {"max_len": 16}}
    whole = zoo.finetune("qtn_httn_aa", "peptides", out=tmp_path / "whole", **options)

    def stop(result: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        zoo.finetune("qtn_httn_aa", "peptides", out=tmp_path / "cut", callbacks=[stop], **options)
    resumed = zoo.finetune("qtn_httn_aa", "peptides", out=tmp_path / "cut", **options)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value)


def test_the_command_trains_measures_and_answers(tmp_path: Path) -> None:
    run, call = str(tmp_path / "run"), CliRunner().invoke
    small = ["--model-arg", "max_len=8", "--epochs", "1", "--lr", "0.01", "--out", run]
    done = call(app, ["train", "qtn_uctn_aa", "peptides", *small])
    assert done.exit_code == 0, done.output
    assert "are cut behind them" in done.output + done.stderr
    measured = call(app, ["eval", run, "peptides", "--json"])
    assert json.loads(measured.stdout)["samples"] == 82
    fasta = tmp_path / "new.fasta"
    fasta.write_text(">one\nMKTAYIAKQR\n>two\nLLVVIAVALL\n>three\nLLVVIAVALL\n")
    answered = json.loads(call(app, ["predict", run, str(fasta), "--json"]).stdout)
    assert [row["sequence"] for row in answered] == ["one", "two", "three"]
    assert answered[1]["top"] == answered[2]["top"]
    shown = call(app, ["predict", run, str(fasta)])
    assert shown.stdout.split()[:2] == ["sequence", "class"] or "one" in shown.stdout


def test_models_and_data_of_other_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="takes sequences of letters, train of digits has images; give FASTA"):
        zoo.finetune("qtn_uptn_aa", "digits", model_args={"qubits": 4}, out=tmp_path / "a", **RUN)
    with pytest.raises(DataError, match="has sequences, kan_bspline takes none; qtn_uptn_aa"):
        zoo.finetune("kan_bspline", "peptides", out=tmp_path / "b", **RUN)
    with pytest.raises(ValueError, match="mixup: for models of images, the data are sequences"):
        zoo.finetune("qtn_uptn_aa", "peptides", mixup=0.2, out=tmp_path / "c", **RUN)
    with pytest.raises(ValueError, match="max_instances is for bags of instances, the data are sequences"):
        zoo.finetune("qtn_uptn_aa", "peptides", max_instances=2, out=tmp_path / "d", **RUN)
    net = zoo.create_model("qtn_uptn_aa")
    with pytest.raises(DataError, match="has images, the model takes sequences of letters"):
        zoo.predict(net, "digits")
    with pytest.raises(DataError, match=r"sequence 1 of the sequences has 1 word\(s\) \('M'\)"):
        zoo.predict(net, ["MK", "M"])
    with pytest.raises(DataError, match="takes sequences of letters, and the page shows images"):
        zoo.app(net)


def test_a_text_is_taken_or_refused_wherever_it_stands(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    torch.manual_seed(0)
    net = zoo.create_model("qtn_uttn_aa", max_len=16, init_scale=1.0)
    (tmp_path / "new.fasta").write_text(">one\nMKTAYIAKQR\n")
    monkeypatch.chdir(tmp_path)
    wanted = zoo.predict(net, "MKTAY")[0]["probability"]
    for text in ("MKTAY", "mktay", "MKT\nAY*", "MK TAY"):
        for texts in ([text], ["LLV", text], [text, "LLV"]):
            assert zoo.predict(net, texts)[texts.index(text)]["probability"] == pytest.approx(wanted)
    assert zoo.predict(net, "MK TAY*")[0]["probability"] == pytest.approx(wanted)
    for text, said in (
        ("MK-TAY", r"\('MK-TAY'\) has '-', which is no letter from A to Z"),
        ("MKT1", "has '1', which is no letter"),
        ("MKTé", "has 'É', which is no letter"),
        ("", r"has 0 word\(s\) \(''\)"),
        ("new.fasta", "'new.fasta' at place . is the name of data"),
        ("peptides", "'peptides' at place . is the name of data"),
        (1, "texts of letters, got 1 at place"),
    ):
        for texts in ([text], ["LLV", text]):
            with pytest.raises(DataError, match=said):
                zoo.predict(net, texts)
    with pytest.raises(DataError, match=r"sequence 0 of the sequences has 0 word\(s\)"):
        zoo.predict(net, "")
    with pytest.raises(DataError, match=r"no data at 'petides'; did you mean 'peptides'\? A sequence is written"):
        zoo.predict(net, "petides")
    assert zoo.predict(net, [Path("new.fasta")])[0]["sequence"] == "one"
    # Longer than the name of a file may be.
    capsys.readouterr()
    long = "MKTAYIAKQRQISFVK" + "A" * 300
    cut = zoo.predict(net, long[:16])[0]["probability"]
    for given in (long, [long], [long, "LLV"]):
        assert zoo.predict(net, given)[0]["probability"] == pytest.approx(cut)
    assert "1 of 2 sequences are longer than the 16 words that the model takes" in capsys.readouterr().err


def test_classes_of_weights_that_are_read_as_others_are_noted(tmp_path: Path, capsys: Any) -> None:
    rows = [f"{letter * 3}{other},{name}" for letter, name in (("A", "one"), ("W", "two")) for other in "CDEFGHIK"]
    (tmp_path / "own.csv").write_text("sequence,label\n" + "\n".join(rows) + "\n")
    data = str(tmp_path / "own.csv")
    run = {**RUN, "epochs": 1, "lr": 0.01, "progress": True}
    kept = "the classes of the model are 'AMP', 'TM', those of the data 'one', 'two': its classifier is kept"
    net = zoo.create_model("qtn_uptn_aa", pretrained=True)
    zoo.finetune(net, data, out=tmp_path / "module", **run)
    assert kept in capsys.readouterr().err
    zoo.finetune(net, data, out=tmp_path / "again", **run)  # now they are its own
    zoo.finetune("qtn_uptn_aa", data, out=tmp_path / "anew", **run)
    assert "is kept" not in capsys.readouterr().err
    zoo.finetune("qtn_uptn_aa", data, out=tmp_path / "name", pretrained=True, **run)
    assert kept in capsys.readouterr().err


def test_a_sequence_is_answered_as_it_is_alone() -> None:
    torch.manual_seed(0)
    net = zoo.create_model("qtn_uttn_aa", init_scale=1.0)
    texts = ["MKTAYIAKQRQISF", "LLV", "ACDEFGHIKLMNPQRSTVWY"]
    together = [one["probability"] for one in zoo.predict(net, texts)]
    alone = [zoo.predict(net, text)[0]["probability"] for text in texts]
    np.testing.assert_allclose(together, alone, rtol=1e-5)
