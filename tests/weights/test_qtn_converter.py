"""Angles of the reference code in our layout; the networks that they make are held to it in tests/quantum/qtn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import zoo
from zoo.errors import ConversionError
from zoo.weights.converters.qtn import convert_official, infer_variant


def angles(**shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}


def test_rows_are_two_dimensional_and_levels_that_were_never_used_are_left_out() -> None:
    state = angles(words=(21, 3), Us=(16, 8), Is=(16, 8), **{"class": (3,)})
    made, notes = convert_official(state)
    assert {name: tuple(rows.shape) for name, rows in made.items()} == {
        "words.weight": (21, 3),
        "disentangler.weight": (3, 8),
        "isometry.weight": (3, 8),
        "readout.weight": (1, 3),
    }
    assert torch.equal(made["disentangler.weight"], state["Us"][:3])
    assert notes[0] == "Us: 3 of 16 rows are levels of a tree; the others were never used"
    assert "pad='token'" in notes[-1]
    uniform, _ = convert_official(angles(words=(21, 3), rules=(8,), **{"class": (3,)}))
    assert uniform["rules.weight"].shape == (1, 8)


def test_a_registered_model_is_built_as_the_angles_call_for() -> None:
    made = zoo.weights.convert(angles(words=(21, 3), rules=(9, 16), **{"class": (3,)}), "qtn_hptn_aa")
    assert made.report.options == {"n_layers": 2, "max_len": 10}
    zoo.create_model("qtn_hptn_aa", **made.report.options).load_state_dict(made)
    tree = zoo.weights.convert(angles(words=(21, 8), Us=(8, 16), Is=(8, 16), **{"class": (8,)}), "qtn_hctn_aa")
    assert tree.report.options == {"qubits": 2, "max_len": 4}
    zoo.create_model("qtn_hctn_aa", **tree.report.options).load_state_dict(tree)


def test_arrays_in_a_file_become_a_folder_and_objects_are_refused(tmp_path: Path) -> None:
    state = angles(words=(21, 3), rules=(9, 8), **{"class": (3,)})
    np.savez(tmp_path / "angles.npz", **{name: rows.numpy() for name, rows in state.items()})
    report = zoo.weights.convert_file(tmp_path / "angles.npz", tmp_path / "net", "qtn_hptn_aa")
    assert report.options["max_len"] == 10
    net = zoo.create_model(f"local-dir:{tmp_path / 'net'}")
    assert torch.equal(net.state_dict()["rules.weight"], state["rules"])
    np.savez(tmp_path / "bad.npz", words=np.array([{"a": 1}], dtype=object))
    with pytest.raises(
        zoo.errors.CorruptFileError, match=r"bad.npz cannot be read as arrays of numbers: Object arrays"
    ):
        zoo.weights.convert_file(tmp_path / "bad.npz", tmp_path / "no", "qtn_hptn_aa")
    (tmp_path / "torn.npz").write_bytes((tmp_path / "angles.npz").read_bytes()[:200])
    with pytest.raises(zoo.errors.CorruptFileError, match=r"torn.npz cannot be read"):
        zoo.weights.convert_file(tmp_path / "torn.npz", tmp_path / "no", "qtn_hptn_aa")


def test_what_is_none_of_it_is_refused() -> None:
    with pytest.raises(ConversionError, match="expected the arrays words, rules, class or words, Us, Is, class; got w"):
        convert_official(angles(w=(2, 3)))
    with pytest.raises(ConversionError, match=r"words must be \(rows, angles\)"):
        convert_official(angles(words=(3,), rules=(1, 8), **{"class": (3,)}))
    with pytest.raises(ConversionError, match="none of qtn14"):
        infer_variant({"words.weight": torch.zeros(4, 3), "rules.weight": torch.zeros(1, 1)})
    with pytest.raises(ConversionError, match="not one of qtn_hptn_aa"):
        zoo.weights.convert(angles(words=(20, 3), rules=(9, 8), **{"class": (3,)}), "qtn_hptn_aa")
