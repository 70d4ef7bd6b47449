"""Pickled checkpoints that hold objects of other packages: tensors and plain values come out, and nothing runs."""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import warnings
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from zoo.errors import PickleRefusedError, WeightsError
from zoo.weights.source import open_checkpoint

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}

#: A module that only the writer of the file has. Whatever its code does when it is imported or used is told.
PACKAGE = """
import numpy
TOLD = []

class CfgNode(dict):
    "As yacs has it: a dict with attributes of its own, nested."
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.__dict__["__immutable__"] = False

class Settings:
    def __init__(self):
        self.lr, self.layers = 0.1, [1, 2]

class Loud:
    def __reduce__(self):
        return shout, ("heard",)

class Whole:
    def __init__(self):
        self.modules = {"a": 1}

class Tuple:
    def __reduce__(self):
        return Tuple, (), (1, 2, 3)

def shout(word):
    raise SystemExit(word)
"""


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A package of somebody else's, which is not there any more when the file is read."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "somebody_s.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    module = importlib.import_module("somebody_s")
    yield module
    sys.modules.pop("somebody_s", None)


def written(path: Path, module: Any, content: dict[str, Any]) -> Path:
    """The file, whose classes can no longer be imported."""
    torch.save(content, path)
    Path(module.__file__).unlink()
    sys.modules.pop(module.__name__)
    importlib.invalidate_caches()
    return path


def test_settings_beside_the_weights_are_plain_values(tmp_path: Path, other: Any) -> None:
    config = other.CfgNode(LR=0.1, MODEL=other.CfgNode(DEPTHS=[2, 2]))
    content = {"model": OrderedDict(STATE), "config": config, "epoch": 3, "scaler": {}, "args": other.Settings()}
    path = written(tmp_path / "last.pth", other, {**content, "more": argparse.Namespace(lr=1)})
    with pytest.warns(UserWarning, match=r"last\.pth: read as plain values, .*: somebody_s\.CfgNode, somebody_s\.Set"):
        found = open_checkpoint(path, allow_pickle=True).tensors
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], STATE[name]) for name in STATE)
    assert "somebody_s" not in sys.modules
    with pytest.raises(PickleRefusedError, match="allow_pickle=True"):
        open_checkpoint(path)


def test_what_would_run_does_not(tmp_path: Path, other: Any) -> None:
    path = written(tmp_path / "last.pth", other, {"state_dict": STATE, "x": other.Loud()})
    with pytest.warns(UserWarning, match=r"somebody_s\.shout"):
        assert open_checkpoint(path, allow_pickle=True).tensors.keys() == STATE.keys()


@pytest.mark.parametrize("name", ["torch", "numpy"])
def test_functions_of_packages_that_are_there_do_not_run_either(tmp_path: Path, name: str) -> None:
    """They would write files: `torch.save` and `numpy.save`, with what they were given."""

    class Bomb:
        def __reduce__(self) -> Any:
            save = importlib.import_module(name).save
            return save, ((torch.zeros(1), target) if name == "torch" else (target, 1.0))

    target = str(tmp_path / "touched.npy")
    torch.save({"state_dict": STATE, "x": Bomb()}, tmp_path / "last.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert open_checkpoint(tmp_path / "last.pth", allow_pickle=True).tensors.keys() == STATE.keys()
    assert not Path(target).exists()


@pytest.mark.parametrize("call", [eval, exec, print, subprocess.run, sys.exit, importlib.import_module])
def test_the_standard_library_is_refused(tmp_path: Path, call: Any) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return call, ("1",)

    torch.save({"state_dict": STATE, "x": Bomb()}, tmp_path / "last.pth")
    with pytest.raises(PickleRefusedError, match=r"weights_only=True\) refuses: .*save the state dict alone"):
        open_checkpoint(tmp_path / "last.pth", allow_pickle=True)


def test_containers_of_the_standard_library_are_refused_as_before(tmp_path: Path) -> None:
    torch.save({"state_dict": STATE, "x": defaultdict(int), "path": Path("a")}, tmp_path / "last.pth")
    with pytest.raises(PickleRefusedError, match="holds more than tensors"):
        open_checkpoint(tmp_path / "last.pth", allow_pickle=True)


def test_what_cannot_be_a_plain_value_is_refused(tmp_path: Path, other: Any) -> None:
    path = written(tmp_path / "last.pth", other, {"state_dict": STATE, "x": other.Tuple()})
    with pytest.raises(PickleRefusedError, match=r"objects of somebody_s\.Tuple cannot be read as plain values"):
        open_checkpoint(path, allow_pickle=True)


def test_a_whole_model_is_no_state_dict(tmp_path: Path, other: Any) -> None:
    """Its weights cannot be had without its class, and those that stand beside it can."""
    for content in (nn.Sequential(nn.Linear(2, 2)), {"model": nn.Linear(2, 2)}):
        torch.save(content, tmp_path / "whole.pth")
        with pytest.raises(PickleRefusedError, match=r"made of objects of torch\.nn\.modules"):
            open_checkpoint(tmp_path / "whole.pth", allow_pickle=True)
    torch.save({"model": nn.Linear(2, 2), "epoch": 3}, tmp_path / "whole.pth")
    with pytest.warns(UserWarning, match="read as plain"), pytest.raises(WeightsError, match="is not a state dict"):
        open_checkpoint(tmp_path / "whole.pth", allow_pickle=True)
    path = written(tmp_path / "both.pth", other, {"state_dict": STATE, "model_ema": other.Whole()})
    with pytest.warns(UserWarning, match="read as plain"):
        assert open_checkpoint(path, allow_pickle=True).tensors.keys() == STATE.keys()


def test_the_old_format_is_read_as_before(tmp_path: Path) -> None:
    torch.save({"state_dict": STATE}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert open_checkpoint(tmp_path / "old.pth", allow_pickle=True).tensors.keys() == STATE.keys()
    torch.save({"model": nn.Linear(2, 2)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(PickleRefusedError):
        open_checkpoint(tmp_path / "old.pth", allow_pickle=True)
