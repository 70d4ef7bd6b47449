"""What the commands refuse of circuits: one line that says what was given, and no traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import zoo
from zoo.cli import app


def refused(*args: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in args])
    assert result.exit_code == 1, result.output + str(result.exception)
    assert "Traceback" not in result.stderr
    return " ".join(result.stderr.split())


#: options of a head -> part of what is said.
HEADS = {
    '{"n_qubits": 0}': "n_qubits must be an integer of at least 1, got 0",
    '{"n_qubit": 2}': "did you mean 'n_qubits'?",
    '{"n_qubits": 2, "observables": ["Z2"]}': "the observable Z2 is on wire 2: the wires are 0 to 1",
    '{"n_qubits": 2, "shots": 0}': "shots must be an integer of at least 1, got 0",
    '{"n_qubits": 2, "shots": 5, "diff_method": "adjoint"}': "which shots do not give; with shots=5 use one of",
    '{"n_qubits": 2, "noise": {"readout": 1.5}}': "a probability of a readout error must lie in [0, 1], got 1.5",
    '{"n_qubits": 2, "noise": {"after": {"cnto": ["bit_flip", 0.1]}}}': "got 'cnto'; did you mean 'cnot'",
    '{"n_qubits": 2, "encoding": "angel"}': "did you mean 'angle'",
}


@pytest.mark.parametrize("options", HEADS)
def test_options_of_a_head(options: str) -> None:
    head = json.dumps({"type": "circuit/quantum", **json.loads(options)})
    said = refused("create", "test_vit", "--img-size", 32, "--num-classes", 2, "--head", head)
    assert HEADS[options] in said, said


#: what is given for a model's constructor -> part of what is said.
MODELS = {
    ("qtn_uctn_aa", "pad=non"): "pad must be one of 'identity', 'token', 'none', got 'non'; did you mean 'none'?",
    ("qtn_uptn_aa", "qubits=0"): "qubits must be a whole number from 1, got 0",
    ("qtn_uptn_aa", "max_len=1"): "max_len must be a whole number from 2, got 1",
    ("qtn_uptn_aa", "max_length=8"): "did you mean 'max_len'",
    ("qtn_uptn_a", "max_len=8"): "did you mean 'qtn_uptn_aa'",
    ("qnn_farhi_neven_17q", "side=0"): "side must be an int ≥ 1, got 0",
}


@pytest.mark.parametrize(("model", "argument"), MODELS)
def test_arguments_of_a_model(model: str, argument: str) -> None:
    said = refused("create", model, "--model-arg", argument)
    assert MODELS[model, argument] in said, said


def test_lengths_that_a_saved_network_refuses(tmp_path: Path) -> None:
    zoo.save_pretrained(zoo.create_model("qtn_uctn_aa", max_len=8, pad="none"), tmp_path / "net")
    for letters, said in (
        ("ACDEFG", "with pad='none' sequences are a power of two, got [6] words"),
        ("A", "left out 1 of 1 sequences of a: 1 shorter than 2"),
        ("AC-D", "1 with other letters than A to Z"),
    ):
        (tmp_path / "a.fasta").write_text(f">first\n{letters}\n")
        assert said in refused("predict", f"local-dir:{tmp_path / 'net'}", tmp_path / "a.fasta")
