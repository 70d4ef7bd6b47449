"""Probabilities in files: every form is the same cases, and what is none is refused by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.karyotype.cases import noisy
from zoo.errors import DataError
from zoo.karyotype import HUMAN
from zoo.karyotype.files import read_chromosomes

_SIZES = (46, 46)
_TABLE = np.concatenate([noisy(seed, 1.5, 6)[1] for seed in range(2)])
_IDS = np.repeat([7, 3], _SIZES)


def table(path, values=_TABLE, cases=_IDS, names=HUMAN.names, separator=","):
    """A file with columns in another order, a column that says nothing, and names of the rows."""
    order = np.random.default_rng(0).permutation(len(names))
    lines = [separator.join(["image", "note", "case", *(names[k] for k in order)])]
    for row, (case, found) in enumerate(zip(cases, values, strict=True)):
        lines.append(separator.join([f"{row}.png", "-", f"case {case}", *(repr(float(found[k])) for k in order)]))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_every_form_is_the_same(tmp_path):
    table(tmp_path / "a.csv")
    table(tmp_path / "a.tsv", separator="\t")
    np.save(tmp_path / "a.npy", _TABLE.reshape(2, 46, 24))
    np.savez(tmp_path / "a.npz", log_probs=_TABLE, sizes=np.array(_SIZES))
    np.savez(tmp_path / "ids.npz", scores=np.zeros(3), log_probs=_TABLE, case_ids=_IDS)
    np.savez(tmp_path / "texts.npz", log_probs=_TABLE, case=np.repeat(["P 7", "P 3"], _SIZES))
    (tmp_path / "a_de.csv").write_text((tmp_path / "a.tsv").read_text().replace(".", ",").replace("\t", ";"))
    (tmp_path / "a_tab.csv").write_text((tmp_path / "a.tsv").read_text())
    save_file({"logits": torch.tensor(_TABLE), "case": torch.tensor(_IDS)}, tmp_path / "a.safetensors")
    for name, cases in {
        "a.csv": ["case 7", "case 3"],
        "a.tsv": ["case 7", "case 3"],
        "a.npy": ["0", "1"],
        "a.npz": ["0", "1"],
        "ids.npz": ["7", "3"],
        "texts.npz": ["P 7", "P 3"],
        "a_de.csv": ["case 7", "case 3"],
        "a_tab.csv": ["case 7", "case 3"],
        "a.safetensors": ["7", "3"],
    }.items():
        found = read_chromosomes(tmp_path / name)
        np.testing.assert_array_equal(found.log_probs, _TABLE)
        np.testing.assert_array_equal(found.case_ids, np.repeat([0, 1], 46))
        assert found.cases == cases
        assert found.names[5].replace(",", ".") == ("5.png" if name.endswith(("csv", "tsv")) else "5")


def test_values(tmp_path):
    np.save(tmp_path / "probs.npy", np.exp(_TABLE[:46]))
    np.save(tmp_path / "logits.npy", _TABLE[:46] + np.arange(46)[:, None])
    np.save(tmp_path / "half.npy", _TABLE[:46].astype(np.float16))
    np.testing.assert_allclose(read_chromosomes(tmp_path / "probs.npy", "probs").log_probs, _TABLE[:46], atol=1e-9)
    np.testing.assert_allclose(read_chromosomes(tmp_path / "logits.npy", "logits").log_probs, _TABLE[:46], atol=1e-9)
    warm = torch.log_softmax(torch.tensor(_TABLE[:46]) / 2.5, -1)
    for name, values in (("logits.npy", "logits"), ("probs.npy", "probs")):
        np.testing.assert_allclose(read_chromosomes(tmp_path / name, values, 2.5).log_probs, warm, atol=1e-9)
    np.testing.assert_allclose(read_chromosomes(tmp_path / "half.npy").log_probs, _TABLE[:46], atol=0.02)
    never = np.exp(_TABLE[:46])
    never[0, 3] = 0
    np.save(tmp_path / "never.npy", never)
    assert np.isneginf(read_chromosomes(tmp_path / "never.npy", "probs", 2.0).log_probs[0, 3])


def test_columns_by_other_names(tmp_path):
    """Types behind chr, cases of patients or of a column that is named; what is left out is told."""
    table(tmp_path / "a.csv", names=HUMAN.names)
    text = (tmp_path / "a.csv").read_text()
    head, rest = text.split("\n", 1)
    types = ",".join(f"chr{name}" for name in head.split(",")[3:])
    for column, option, left_out in (("Patient", None, "note"), ("cell", "Cell", "note"), ("cell", None, "note, cell")):
        (tmp_path / "b.csv").write_text(f"image,note,{column},{types}\n{rest}")
        found = read_chromosomes(tmp_path / "b.csv", case=option)
        np.testing.assert_array_equal(found.log_probs, _TABLE)
        assert found.notes[0] == f"b.csv: left out: {left_out}"
        assert found.cases == (["0"] if left_out != "note" else ["case 7", "case 3"])
        assert len(found.notes) == 1 + (found.cases == ["0"])
    assert found.notes[1].startswith("b.csv does not say which rows are of one case (case, case_id, case_ids, patient,")
    np.savez(tmp_path / "a.npz", log_probs=_TABLE, cell=_IDS, patient=np.zeros(92, int))
    found = read_chromosomes(tmp_path / "a.npz", case="cell")
    assert (found.cases, found.notes) == (["7", "3"], ["a.npz: left out: patient"])
    for name, message in (
        ("b.csv", "b.csv has no column 'cel'; did you mean 'cell'\\? Besides types: image, note, cell"),
        ("a.npz", "a.npz has no array 'cel' of cases; did you mean 'cell'"),
    ):
        with pytest.raises(DataError, match=message):
            read_chromosomes(tmp_path / name, case="cel")


def test_one_case_needs_no_name(tmp_path):
    path = tmp_path / "a.csv"
    lines = [",".join(HUMAN.names), *(",".join(map(str, row)) for row in _TABLE[:46].tolist())]
    path.write_text("\ufeff" + "\r\n".join(lines))
    found = read_chromosomes(path)
    assert (found.cases, found.names[:2]) == (["0"], ["0", "1"])
    np.testing.assert_array_equal(found.log_probs, _TABLE[:46])


_HEAD = ",".join(HUMAN.names) + "\n"


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("a.csv", None, "there is no file"),
        ("a.txt", lambda p: p.write_text("x"), "a.txt must be one of .csv, .tsv, .npy, .npz, .safetensors"),
        ("a.csv", lambda p: table(p, names=(*HUMAN.names[:-1], "Z")), "for every type, 1 to Y, .* tabs; it lacks Y$"),
        ("a.csv", lambda p: p.write_text(""), "column for every type"),
        ("a.csv", lambda p: p.write_text(_HEAD), "a.csv has no rows"),
        (
            "a.csv",
            lambda p: p.write_text(_HEAD + ("0," * 23 + "0\n") * 4 + "0," * 22 + "x,0\n" + ("0," * 23 + "0\n") * 9),
            "a.csv, line 6: column X has 'x', which is no number",
        ),
        ("a.csv", lambda p: p.write_text(_HEAD + "0," * 23 + "NaN"), "line 2: column Y has 'NaN': .* only -inf may be"),
        (
            "a.csv",
            lambda p: p.write_text(_HEAD + "0,0"),
            "a.csv, line 2: it has not as many fields as the first line, 24",
        ),
        ("a.csv", lambda p: p.write_text(_HEAD + "0," * 24 + "5"), "line 2: it has not as many fields"),
        ("a.npy", lambda p: np.save(p, np.where(_TABLE[9, 3] == _TABLE, np.nan, _TABLE)), "nan in row 9, column 3"),
        ("a.npy", lambda p: p.write_bytes(b"none"), "a.npy cannot be read"),
        ("a.npy", lambda p: np.save(p, np.array([{}])), "a.npy cannot be read"),  # would be a pickle
        ("a.npy", lambda p: np.save(p, np.zeros(24)), r"a.npy must be \[N, 24\] or \[cases, N, 24\], got \[24\]"),
        ("a.npy", lambda p: np.save(p, np.array([["a"]])), "a.npy: log_probs must be an array of numbers"),
        ("a.npz", lambda p: np.savez(p, a=_TABLE, b=_TABLE), "one array named log_probs.*; it has a, b"),
        ("a.npz", lambda p: np.savez(p, log_probs=_TABLE, sizes=np.array([46])), "at least 1 and sum to 92 rows"),
        ("a.npz", lambda p: np.savez(p, log_probs=_TABLE, case=_IDS[:-1]), r"a.npz: case must be \[92\], got \[91\]"),
        ("a.npz", lambda p: np.savez(p, log_probs=_TABLE, case=["P"] * 90 + [""] * 2), "case of row 90 is empty"),
        ("a.npy", lambda p: np.save(p, _TABLE[None, :0]), r"a.npy must be \[N, 24\] .*, got \[1, 0, 24\]"),
        ("a.csv", lambda p: p.write_text(_HEAD, "utf-16"), "a.csv is no text in UTF-8 .* at byte 0.*'CSV UTF-8'"),
        (
            "a.csv",
            lambda p: p.write_text("case," + _HEAD + ("P," + "0," * 23 + "0\n") + " ," + "0," * 23 + "0\n"),
            "a.csv, line 3: the column 'case' is empty; each row belongs to a case",
        ),
        ("a.safetensors", lambda p: p.write_bytes(b"0" * 9), "a.safetensors cannot be read"),
    ],
)
def test_refuses_files(tmp_path, name, make, message):
    if make is not None:
        make(tmp_path / name)
    with pytest.raises(DataError, match=message):
        read_chromosomes(tmp_path / name)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"values": "log_probs"}, ValueError, "unknown values 'log_probs'; did you mean 'log-probs'"),
        ({"temperature": 0}, ValueError, "temperature must be a number above 0, got 0"),
        ({"temperature": float("nan")}, ValueError, "temperature must be"),
        ({"values": "logits"}, DataError, "has probabilities, and logits were promised: say probs"),
        ({"temperature": 1.4}, DataError, "has probabilities, and log-probs were promised: say probs"),
        ({"values": "probs"}, DataError, "values outside 0 to 1, and probs were promised"),
    ],
)
def test_refuses_options(tmp_path, options, error, message):
    np.save(tmp_path / "a.npy", np.exp(_TABLE).round(4) if "promised: say" in message else _TABLE)
    with pytest.raises(error, match=message):
        read_chromosomes(tmp_path / "a.npy", **options)


def test_logits_that_are_no_numbers(tmp_path):
    np.save(tmp_path / "a.npy", np.full((2, 24), np.inf))
    with pytest.raises(DataError, match=r"a.npy has inf in row 0, column 0: .* only -inf may be there"):
        read_chromosomes(tmp_path / "a.npy", "logits")
    np.save(tmp_path / "a.npy", np.repeat([0, -np.inf], 24).reshape(2, 24))
    with pytest.raises(DataError, match=r"a.npy leaves the chromosome of row 1 no type that it can be"):
        read_chromosomes(tmp_path / "a.npy", "logits")
