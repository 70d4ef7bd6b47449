"""`zoo.compare`: the variants that it makes, what it refuses before training, what it measures, writes and resumes."""

from __future__ import annotations

import csv
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import nn

import zoo
from tests.training.helpers import few_digits, two_shades
from zoo.errors import TrainingError, UnknownModelError, UnknownModuleError, UnsupportedSurgery
from zoo.training import plots
from zoo.training.comparison import _DEFAULTS
from zoo.training.comparison_result import Comparison, Row, Run
from zoo.training.data import Splits
from zoo.training.measured_run import only_here
from zoo.training.settings import resolve
from zoo.training.variants import build_without_memory, make_variants

RECIPE: dict[str, Any] = {"epochs": 1, "batch_size": 16, "img_size": 32, "lr": 1e-3, "progress": False, "device": "cpu"}


class DiesInTraining(nn.Linear):
    """A head that ends its process with the first image that it learns from."""

    def forward(self, x: Any) -> Any:
        if self.training and not x.is_meta:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)


class RaisesInTraining(nn.Linear):
    """A head that cannot be trained."""

    def forward(self, x: Any) -> Any:
        if self.training and not x.is_meta:
            raise ArithmeticError("no gradient for you")
        return super().forward(x)


@pytest.fixture(scope="module")
def data() -> Splits:
    return few_digits(train=64, val=20, test=40)


@pytest.fixture(scope="module")
def first(data: Splits, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Two heads, one seed."""
    return zoo.compare("test_resnet", data, head=["linear", "kan"], out=tmp_path_factory.mktemp("c"), **RECIPE)


# --- the variants -----------------------------------------------------------------------------------------------------


def test_variants_are_the_combinations_of_lists() -> None:
    some = {"type": "kan", "where": "last:2"}
    variants = make_variants({"head": ["linear", "kan"], "mlp": ["none", some], "pool": "avg"})
    assert [v.label for v in variants] == [
        "mlp none, head linear",
        "mlp none, head kan",
        "mlp kan(where=last:2), head linear",
        "mlp kan(where=last:2), head kan",
    ]
    assert variants[0].parts == {"pool": {"type": "avg"}, "head": {"type": "linear"}}
    assert variants[3].parts == {"mlp": some, "pool": {"type": "avg"}, "head": {"type": "kan"}}
    assert len({v.folder for v in variants}) == 4
    assert variants[0].folder == "mlp-none-pool-avg-head-linear"


def test_none_keeps_what_is_there_and_writing_makes_no_difference() -> None:
    one, two = make_variants({"head": [None, "kan"]}), make_variants({"head": ["none", {"type": "head/kan"}]})
    assert one == two
    assert one[0].parts == {}
    coarse, fine = make_variants({"head": [{"type": "kan", "grid_size": n} for n in (4, 8)]})
    assert coarse.label == "head kan(grid_size=4)"
    assert coarse.folder != fine.folder


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"head": []}, ValueError, r"head=\[\] has no choice"),
        ({"head": "kan"}, ValueError, r"head=\['none', 'kan'\]"),
        ({"head": ["kan"]}, ValueError, "one model and nothing to compare"),
        ({}, ValueError, "one model and nothing to compare"),
        ({"head": ["kan", {"type": "kan"}]}, ValueError, "head has the choice kan twice"),
        ({"head": ["kann", "linear"]}, UnknownModuleError, "unknown module 'head/kann'; did you mean 'head/kan'"),
        ({"head": [{"type": "kan", "grid_sise": 3}, "none"]}, TypeError, "'grid_sise'; did you mean 'grid_size'"),
        ({"head": ["linear", {"typ": "kan"}]}, ValueError, "has no 'type'.*did you mean"),
        ({"mlp": ["none", {"type": "kan", "where": "last:0"}]}, ValueError, "where must be"),
    ],
)
def test_choices_that_are_refused(given: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make_variants(given)


# --- before training --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"mlp": ["kan", "none"]}, UnsupportedSurgery, "^mlp kan: test_resnet has no mlp.*: act, pool, head"),
        ({"head": ["linear", "kan"], "base": "test_resnett"}, UnknownModelError, "did you mean 'test_resnet'"),
        ({"head": ["linear", "kan"], "epoch": 3}, TypeError, "zoo.compare takes no argument 'epoch'; did you mean"),
        ({"head": ["linear", "kan"], "epochs": 0}, ValueError, "epochs must be a whole number from 1"),
        ({"head": ["linear", "kan"], "seeds": 0}, ValueError, "seeds must be a whole number from 1"),
        ({"head": ["linear", "kan"], "freeze": "hed*"}, ValueError, "head linear: freeze pattern 'hed\\*'"),
        ({"head": ["linear", "kan"], "model_args": {"act": "silu"}}, ValueError, "give act to zoo.compare itself"),
        ({"head": ["linear", "kan"], "base": nn.Linear(1, 1)}, TypeError, "takes a model by name.*got a Linear"),
        ({"head": ["linear", "kan"], "data": two_shades(40), "val": False}, ValueError, "leaves none to compare on"),
        ({"head": ["linear", "kan"], "data": "no/such/data"}, zoo.errors.DataError, "no data at 'no/such/data'"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_trained(
    arguments: dict[str, Any], error: type[Exception], message: str, data: Splits, tmp_path: Path
) -> None:
    call = {"base": "test_resnet", "data": data, "out": tmp_path / "out", **RECIPE, **arguments}
    with pytest.raises(error, match=message):
        zoo.compare(call.pop("base"), call.pop("data"), **call)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_sent_to_a_process_is_refused(data: Splits, tmp_path: Path) -> None:
    class Local(nn.Linear):
        pass

    with pytest.raises(TypeError, match=r"head Local: the class cannot be sent.*in a file that can be imported"):
        zoo.compare("test_resnet", data, head=["linear", Local], out=tmp_path / "out", **RECIPE)
    locked = few_digits(train=40)
    locked.train.lock = threading.Lock()  # type: ignore[union-attr]
    with pytest.raises(TypeError, match="a Splits cannot be"):
        zoo.compare("test_resnet", locked, head=["linear", "kan"], out=tmp_path / "out", **RECIPE)


def test_other_files_are_left_alone(data: Splits, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds other files and no comparison"):
        zoo.compare("test_resnet", data, head=["linear", "kan"], out=tmp_path, **RECIPE)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


# --- what comes out ---------------------------------------------------------------------------------------------------


def test_rows_tell_what_the_runs_reached_and_cost(first: Comparison, data: Splits) -> None:
    linear, kan = first.rows
    assert (first.metric, first.split) == ("accuracy", "test")
    assert [row.variant for row in first.rows] == ["head linear", "head kan"]
    for row in first.rows:
        (run,) = row.runs
        stored = json.loads((run.folder / "metrics.json").read_text())
        history = json.loads((run.folder / "history.json").read_text())
        assert row.mean == run.value == stored["test"]["accuracy"]
        assert row.std is None
        assert row.seconds_per_epoch == history[0]["seconds"]
        assert (row.epochs, row.error, row.memory_of) == (1, None, "process")
        # More than the optimiser's two copies of the parameters; less than a process with torch in it.
        assert 8 * row.params < (row.peak_memory or 0) < 400 * 2**20
    assert linear.params == sum(p.numel() for p in zoo.create_model("test_resnet", num_classes=10).parameters())
    model = zoo.create_model(f"local-dir:{kan.runs[0].folder / 'best'}")
    assert kan.params == kan.trainable == sum(p.numel() for p in model.parameters()) > linear.params
    assert model.zoo_spec["head"] == {"type": "kan"}
    again = zoo.evaluate(kan.runs[0].folder, data, progress=False)
    assert again["accuracy"] == kan.mean


def test_files_hold_the_rows(first: Comparison) -> None:
    with (first.folder / "comparison.csv").open() as file:
        table = list(csv.DictReader(file))
    stored = json.loads((first.folder / "comparison.json").read_text())
    assert [line["variant"] for line in table] == [row.variant for row in first.rows]
    for line, record, row in zip(table, stored["rows"], first.rows, strict=True):
        assert float(line["mean"]) == record["mean"] == row.mean
        assert line["std"] == ""
        assert int(line["params"]) == record["params"] == row.params
        assert int(line["peak_memory"]) == row.peak_memory
        assert float(line["seconds_per_epoch"]) == row.seconds_per_epoch
        assert first.folder / line["folder"] == row.runs[0].folder
        assert record["parts"] == {"head": {"type": row.variant.removeprefix("head ")}}
        assert record["runs"][0]["metrics"]["samples"] == 40
    assert stored["settings"]["options"]["lr"] == 1e-3
    with Image.open(first.folder / "comparison.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20
    assert not list(first.folder.rglob("*.tmp-*"))
    text = str(first).splitlines()
    assert text[0] == "test_resnet on few"
    heading = "variant accuracy (test) parameters trained s/epoch process memory epochs"
    assert " ".join(text[2].split()) == heading
    assert f"{first.rows[1].mean:.4f}" in text[4]
    assert f"{first.rows[1].params:,}" in text[4]


def test_what_is_finished_is_not_trained_again(first: Comparison, data: Splits) -> None:
    """The same call; then a choice and a seed more: only the new runs are trained, the old rows stay."""

    def files() -> dict[Path, int]:
        return {p: p.stat().st_mtime_ns for p in first.folder.glob("*/seed-0/**/*") if p.is_file()}

    before = files()
    again = zoo.compare("test_resnet", data, head=["linear", "kan"], out=first.folder, **RECIPE)
    assert again.rows == first.rows
    assert files() == before
    more = zoo.compare("test_resnet", data, head=["linear", "kan"], seeds=2, out=first.folder, **RECIPE)
    assert files() == before
    for row, earlier in zip(more.rows, first.rows, strict=True):
        assert row.runs[0] == earlier.runs[0]
        assert row.runs[1].seed == 1
        assert row.mean == statistics.fmean([run.value or 0.0 for run in row.runs])
        assert row.std == pytest.approx(abs(row.values[0] - row.values[1]) / 2**0.5)
    options = json.loads((more.rows[0].runs[1].folder / "args.json").read_text())["options"]
    assert (options["seed"], options["model_args"]) == (1, {"head": {"type": "linear"}})
    with pytest.raises(TrainingError, match=r"other settings \(lr was 0\.001, is 0\.01\)"):
        zoo.compare("test_resnet", data, head=["linear", "kan"], out=first.folder, **{**RECIPE, "lr": 0.01})
    with pytest.raises(TrainingError, match="the data is another or has changed"):
        other = few_digits(train=60, val=20, test=40)
        zoo.compare("test_resnet", other, head=["linear", "kan"], out=first.folder, **RECIPE)


def test_a_variant_that_dies_is_reported_and_the_others_go_on(first: Comparison, data: Splits) -> None:
    heads = [DiesInTraining, RaisesInTraining, "linear"]
    comparison = zoo.compare("test_resnet", data, head=heads, out=first.folder, **RECIPE)
    dead, raised, linear = comparison.rows
    assert dead.error == "the process was ended by SIGKILL (out of memory?)"
    assert raised.error == "ArithmeticError: no gradient for you"
    assert dead.mean is None
    assert linear == first.rows[0]
    assert linear.error is None
    stored = json.loads((first.folder / "comparison.json").read_text())
    assert [row["error"] for row in stored["rows"]] == [dead.error, raised.error, None]
    assert "failed" in str(comparison).splitlines()[3]


# --- parts ------------------------------------------------------------------------------------------------------------


def test_frozen_parameters_are_not_counted_as_trained(data: Splits) -> None:
    linear, kan = make_variants({"head": ["linear", "kan"]})
    settings = {**_DEFAULTS, **RECIPE, "model": "test_resnet", "freeze": "backbone"}
    options = resolve(settings, data, "test_resnet")
    assert build_without_memory("test_resnet", linear, 10, options, {})[1] == 96 * 10 + 10
    assert build_without_memory("test_resnet", kan, 10, options, {}) == (381_530, 8_842)
    everything = resolve({**settings, "freeze": None}, data, "test_resnet")
    assert build_without_memory("test_resnet", kan, 10, everything, {}) == (381_530, 381_530)


def test_peak_memory_is_that_of_the_process() -> None:
    # In a process of its own: in this one the collector may free as much in the meantime.
    code = """
import numpy as np
from zoo.training.peak_memory import PeakMemory
memory = PeakMemory()
block = np.ones(64 * 2**20, dtype=np.uint8)
size, of = memory()
assert of == "process", of
assert 0.9 * block.nbytes < size < 2 * block.nbytes, size  # Linux counts in batches: a little may be missing
del block
assert memory()[0] > 0.9 * 64 * 2**20, memory()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_plot_shows_the_rows() -> None:
    runs = [Run(seed, Path(f"x/seed-{seed}"), value=v) for seed, v in enumerate((0.5, 0.7))]
    row = Row("head kan", {"head": "kan"}, 2_000_000, 2_000_000, runs)
    assert (row.mean, row.std) == (pytest.approx(0.6), pytest.approx(0.1 * 2**0.5))
    facts = {"variant": "head kan", "values": row.values, "mean": row.mean, "std": row.std, "params": row.params}
    nothing = {"variant": "head broken", "values": [], "mean": None, "std": None, "params": 1_000_000}
    costs = {"seconds_per_epoch": None, "peak_memory": 2**21}
    figure = plots.comparison([{**facts, **costs}, {**nothing, **costs}], "accuracy (test)", title="a")
    metric, params, memory = figure.axes
    assert [a.get_xlabel() for a in figure.axes] == [
        "accuracy (test), mean ± std",
        "parameters (millions)",
        "peak process memory (MiB)",
    ]
    assert [t.get_text() for t in metric.get_yticklabels()] == ["head kan", "head broken"]
    assert [p.get_width() for p in params.patches] == [2.0, 1.0]
    assert [p.get_width() for p in memory.patches] == [2.0, 2.0]
    assert {"0.6000", "no value"} <= {t.get_text() for t in metric.texts}
    assert list(metric.lines[0].get_xdata()) == [0.5, 0.7]


def test_a_script_from_a_pipe_has_no_file_that_another_process_could_import() -> None:
    code = (
        "from zoo.training.measured_run import only_here\n"
        "class Mine: pass\n"
        "print(__file__, only_here([Mine]), only_here([]))\n"
    )
    done = subprocess.run([sys.executable, "-"], input=code, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["<stdin>", "True", "True"]
    assert not only_here([RaisesInTraining])  # of a script that is a file
