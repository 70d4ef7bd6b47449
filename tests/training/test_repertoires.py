"""Repertoires as data: read from a table of files, learned from, and answered with the sequences that decided."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import zoo
from zoo.cli import app
from zoo.errors import DataError
from zoo.models.deeprc import AMINO_ACIDS
from zoo.training.data import open_splits
from zoo.training.data.repertoires import Repertoires

MOTIF = "WGWYH"
CALM = {"progress": False, "device": "cpu", "amp": "no"}


def planted(root: Path, bags: int = 48, size: int = 120, seed: int = 0) -> Path:
    """Repertoires of random sequences; of every second one a twelfth carries the motif."""
    draw = np.random.default_rng(seed)
    root.mkdir(parents=True)
    lines = ["ID\tstatus"]
    for k in range(bags):
        rows = ["amino_acid\ttemplates"]
        for i in range(int(draw.integers(size // 2, size))):
            text = "".join(draw.choice(list(AMINO_ACIDS), int(draw.integers(10, 17))))
            text = f"{text[:3]}{MOTIF}{text[8:]}" if k % 2 and i % 12 == 0 else text
            rows.append(f"{text}\t{draw.geometric(0.5)}")
        (root / f"sample{k}.tsv").write_text("\n".join(rows) + "\n")
        lines.append(f"sample{k}\t{'ill' if k % 2 else 'well'}")
    (root / "samples.tsv").write_text("\n".join(lines) + "\n")
    return root


def two_files(root: Path, **contents: str) -> str:
    """A table of files with these contents, of the classes p and q in turn."""
    lines = ["file,label"]
    for k, (name, content) in enumerate(contents.items()):
        (root / f"{name}.tsv").write_text(content)
        lines.append(f"{name}.tsv,{'pq'[k % 2]}")
    (root / "t.csv").write_text("\n".join(lines))
    return f"repertoires:{root / 't.csv'}"


def test_a_planted_motif_is_learned_and_named(tmp_path: Path) -> None:
    root = planted(tmp_path / "data")
    options = {"epochs": 12, "batch_size": 4, "lr": 5e-3, "max_instances": 60, "model_args": {"num_kernels": 16}}
    source = f"repertoires:{root / 'samples.tsv'}?file=ID&label=status"
    zoo.finetune("deeprc_cnn", source, out=tmp_path / "run", **options, **CALM)
    fresh = planted(tmp_path / "fresh", bags=30, seed=1)
    measured = zoo.evaluate(tmp_path / "run", f"repertoires:{fresh / 'samples.tsv'}?label=status", progress=False)
    assert measured["samples"] == 30
    assert measured["auroc"] >= 0.85
    files = [str(fresh / f"sample{k}.tsv") for k in (1, 3, 5, 7)]
    run = CliRunner().invoke(app, ["predict", str(tmp_path / "run"), *files, "--json"])
    assert run.exit_code == 0, run.output
    answers = json.loads(run.stdout)
    assert [answer["bag"] for answer in answers] == files
    strongest = [max(answer["instances"], key=lambda row: row["weight"])["instance"] for answer in answers]
    assert sum(MOTIF in one for one in strongest) >= 3
    assert sum(row["weight"] for row in answers[0]["instances"]) == pytest.approx(1, abs=1e-5)


def test_read_as_written(tmp_path: Path) -> None:
    """By the usual names or by those that are given, in capitals or not, compressed or not."""
    root = tmp_path / "files"
    root.mkdir()
    (root / "a.tsv").write_text(
        "v_call\tjunction_aa\tduplicate_count\nV1\tCASSF\t3\nV2\tCAW\t1\nV3\tCA*F\t9\nV4\t\t2\n"
    )
    with gzip.open(root / "b.csv.gz", "wt") as stream:
        stream.write("cdr3,count\ncasrr,2.0\nCB,1\n")
    (tmp_path / "t.csv").write_text("repertoire_id,label,split\na,p,train\nb,q,train\na,p,test\n")
    splits = open_splits(f"repertoires:{tmp_path / 't.csv'}?root=files", val=False)
    train = splits.train
    assert isinstance(train, Repertoires)
    assert [train.instance_names(k) for k in range(2)] == [["CASSF", "CAW"], ["CASRR"]]
    assert [train.image(k).counts.tolist() for k in range(2)] == [[3, 1], [2]]
    assert train.image(0).instances.tolist() == [[AMINO_ACIDS.index(x) for x in "CASSF"], [1, 0, 18, -1, -1]]
    assert (train.classes, train.labels.tolist()) == (["p", "q"], [0, 1])
    assert splits.notes[0].startswith("left out 5 of 10 sequences, which are empty or have other letters")
    assert "1 bag(s) of test are also in train (repertoire " in splits.notes[1]
    (root / "c.tsv").write_text("mine\tn\tjunction_aa\nAAA\t4\tCCC\n")
    (root / "d.tsv").write_text("mine\tn\nDDD\t5\n")
    (tmp_path / "u.csv").write_text("f,label\nc,p\nd,q\n")
    given = open_splits(f"repertoires:{tmp_path / 'u.csv'}?file=f&root=files&sequence=mine&count=n", val=False)
    assert isinstance(given.train, Repertoires)
    assert given.train.instance_names(0) == ["AAA"]
    assert given.train.image(0).counts.tolist() == [4]


def test_without_counts_every_sequence_was_seen_once(tmp_path: Path) -> None:
    source = two_files(tmp_path, a="cdr3\nCASSF\nCAWRR\n", b="cdr3\nCASRR\n")
    train = open_splits(source, val=False).train
    assert isinstance(train, Repertoires)
    assert train.image(0).counts is None
    (answer,) = zoo.predict(zoo.create_model("deeprc_cnn", num_classes=2), tmp_path / "a.tsv")
    assert [row["instance"] for row in answer["instances"]] == ["CASSF", "CAWRR"]
    torch.testing.assert_close(sum(row["weight"] for row in answer["instances"]), 1.0)


def test_a_table_without_labels_is_answered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two_files(tmp_path, a="cdr3\nCASSF\nCAW?\n", b="cdr3\nCASRR\n")
    (tmp_path / "u.csv").write_text("file\nb\na\n")
    answers = zoo.predict(zoo.create_model("deeprc_cnn", num_classes=2), f"repertoires:{tmp_path / 'u.csv'}")
    assert [[row["instance"] for row in answer["instances"]] for answer in answers] == [["CASRR"], ["CASSF"]]
    assert "left out 1 of 3 sequences" in capsys.readouterr().err


def test_refused(tmp_path: Path) -> None:
    good = "cdr3\tcount\nCASSF\t1\n"
    with pytest.raises(DataError, match=r"no table .*nowhere.tsv"):
        open_splits(f"repertoires:{tmp_path / 'nowhere.tsv'}")
    with pytest.raises(DataError, match=r"b.tsv has no column for the sequence by a usual name .*there: 'x'"):
        open_splits(two_files(tmp_path, a=good, b="x\nCAS\n"))
    with pytest.raises(DataError, match=r"b.tsv has no sequence of amino acids among its 1 rows"):
        open_splits(two_files(tmp_path, a=good, b="cdr3\tcount\nB*Z\t1\n"))
    with pytest.raises(DataError, match=r"b.tsv, row 2: counts must be whole numbers from 1, got '0'"):
        open_splits(two_files(tmp_path, a=good, b="cdr3\tcount\nCAS\t1\nCAS\t0\n"))
    with pytest.raises(DataError, match=r"b.tsv has no column of counts, other files have"):
        open_splits(two_files(tmp_path, a=good, b="cdr3\nCAS\n"))
    with pytest.raises(DataError, match=r"cannot read .*b.tsv as a table of sequences"):
        open_splits(two_files(tmp_path, a=good, b="cdr3\tcount\nCAS\n"))
    source = two_files(tmp_path, a=good, b=good)
    with pytest.raises(DataError, match=r"has sequences as instances, the model takes \(512,\)"):
        zoo.finetune("hopfield_mil", source, out=tmp_path / "x", val=False, **CALM)
    vectors = {"rows": np.zeros((4, 3), dtype=np.float32), "offsets": [0, 2, 4], "labels": [0, 1]}
    with pytest.raises(DataError, match=r"instances of \(3,\), the model takes sequences of amino acids"):
        zoo.finetune("deeprc_cnn", vectors, out=tmp_path / "y", val=False, **CALM)
