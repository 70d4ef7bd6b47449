"""`zoo karyotype`: cases from files, as a table, as JSON, and a type for every chromosome."""

from __future__ import annotations

import csv
import json

import numpy as np
from typer.testing import CliRunner

from tests.karyotype.cases import noisy, types_of
from tests.karyotype.goldens import golden
from tests.karyotype.test_files import table
from zoo.cli import app
from zoo.karyotype import dispatch_cases

RUN = CliRunner()


def _trap(path):
    """The golden case with one chromosome 21 too many and one X too few."""
    np.save(path, golden("dispatch")[1]["in.4.log_probs"].numpy())
    return str(path)


def test_a_table_of_cases(tmp_path):
    cases = [noisy(seed, 1.5, 5, types_of(_21=seed))[1] for seed in range(2)]
    order = np.random.default_rng(0).permutation(46 + 47)
    ids = np.repeat([1, 2], (46, 47))[order]
    values = np.concatenate(cases)[order]
    source = table(tmp_path / "a.csv", values, ids)
    out = tmp_path / "types.csv"
    result = RUN.invoke(app, ["karyotype", str(source), "--out", str(out)])
    assert result.exit_code == 0, result.output
    found = dispatch_cases(values, case_ids=ids)
    lines = dict(line.split("\t")[:2] for line in result.stdout.splitlines())
    assert lines == {f"case {number + 1}": one.karyotype for number, one in enumerate(found)}
    overruled = sum(len(one.overruled) for one in found)
    assert f"not a medical device; look at the {overruled} chromosomes that were overruled" in result.stderr
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [row["chromosome"] for row in rows] == [f"{row}.png" for row in range(93)]
    for one in found:
        assert [rows[row]["type"] for row in one.rows] == one.names
        assert {one.rows[x.index] for x in one.overruled} == {row for row in one.rows if rows[row]["likeliest_alone"]}
    again = RUN.invoke(app, ["karyotype", str(source), "--out", str(out)])
    assert again.exit_code == 1
    assert "is there already; --overwrite replaces it" in again.stderr
    assert RUN.invoke(app, ["karyotype", str(source), "--out", str(out), "--overwrite", "-q"]).stderr == ""


def test_penalties_and_json(tmp_path):
    source = _trap(tmp_path / "a.npy")
    plain = json.loads(RUN.invoke(app, ["karyotype", source, "--json"]).stdout)
    assert [case["karyotype"] for case in plain] == ["46,XX"]
    assert plain[0]["overruled"][0]["likeliest"] == "21"
    assert plain[0]["names"] == [str(row) for row in range(46)]
    seen = RUN.invoke(app, ["karyotype", source, "--gain", "3", "--loss", "3"])
    assert seen.stdout.split("\t")[1] == "46,X,+21"
    strict = RUN.invoke(app, ["karyotype", source, "--strict"])
    assert "the normal karyotype was forced: gains and losses do not show" in strict.stderr
    assert strict.stdout.split("\t")[1] == "46,XX"
    assert "21→X" in strict.stdout
    details = RUN.invoke(app, ["karyotype", source, "--details"]).stdout
    assert details.startswith("case 0: Karyotype('46,XX', 46 chromosomes")
    assert "overruled: " in details


def test_cases_keep_their_names_and_order(tmp_path):
    cases = [noisy(seed, 1.5, 12)[1] for seed in range(2)]
    source = str(table(tmp_path / "a.csv", np.concatenate([cases[0], cases[1][:45]]), ["P 9"] * 46 + ["P 10"] * 45))
    result = RUN.invoke(app, ["karyotype", source])
    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == ["case P 9", "case P 10"]
    assert result.stdout.split("\t")[1] == "46,XY"
    assert result.stderr == "zoo: a.csv: left out: note\nzoo: not a medical device; no chromosome was overruled\n"
    by_note = RUN.invoke(app, ["karyotype", source, "--case", "note", "--out", str(tmp_path / "types.tsv")])
    assert by_note.stderr.startswith("zoo: a.csv: left out: case\n")
    rows = list(csv.DictReader((tmp_path / "types.tsv").read_text().splitlines(), delimiter="\t"))
    assert ({row["case"] for row in rows}, len(rows)) == ({"-"}, 91)
    strict = RUN.invoke(app, ["karyotype", source, "--strict"])
    assert strict.stderr == "error: case case P 10: strict=True forces 46 chromosomes, and the case has 45\n"
    table(tmp_path / "a.csv", cases[0] - 3, ["P 9"] * 46)
    result = RUN.invoke(app, ["karyotype", source])
    assert result.stdout.split("\t")[1] == "46,XY"
    assert "zoo: case case P 9: the probabilities of row 0 of log_probs sum to 0.0498, not 1" in result.stderr
    assert RUN.invoke(app, ["karyotype", source, "-q"]).stderr == ""


def test_errors_are_a_line(tmp_path):
    source = _trap(tmp_path / "a.npy")
    for arguments, message in (
        (["--sex", "xx"], "error: unknown sex 'xx'; did you mean 'XX'"),
        (["--method", "best"], "error: unknown method 'best'"),
        (["--gain", "-1"], "error: gain must be finite and at least 0"),
        (["--out", "types.xlsx"], "error: --out must end with .csv or .tsv, which it is; got types.xlsx"),
        (["--values", "probs"], "error: a.npy has values outside 0 to 1"),
    ):
        result = RUN.invoke(app, ["karyotype", source, *arguments])
        assert result.exit_code == 1
        assert message in result.stderr
