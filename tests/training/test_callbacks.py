"""Functions of the caller's see every epoch; a Result plots, reports and publishes itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from tests.training.helpers import QUICK, few_digits, tiny_net
from tests.training.test_processes import launch
from zoo.training import Result


def test_a_function_sees_what_there_is_so_far(tmp_path: Path) -> None:
    seen: list[Result] = []
    steps: list[list[str]] = []

    def look(result: Result) -> None:
        seen.append(result)
        steps.append(sorted(p.name for p in (tmp_path / "checkpoints").iterdir()))

    model = tiny_net()
    final = zoo.finetune(model, few_digits(), out=tmp_path, callbacks=[look], ema=0.9, **{**QUICK, "epochs": 3})
    assert [len(result.history) for result in seen] == [1, 2, 3]
    assert seen[-1].history == final.history
    assert steps[0] == ["step-00000006"]  # the checkpoint of the epoch is there
    for result, row in zip(seen, final.history, strict=True):
        assert result.model is model
        assert (result.metrics["split"], result.metrics["samples"]) == ("val", 40)
        assert result.metrics["accuracy"] == row["val_accuracy"]
        assert result.val_metrics is not None
        assert sum(map(sum, result.val_metrics["confusion"])) == 40
        assert result.folder == tmp_path
    assert seen[-1].best_epoch == final.best_epoch


def test_it_cannot_change_what_is_learned_by_drawing_numbers(tmp_path: Path) -> None:
    def draw(result: Result) -> None:
        torch.manual_seed(len(result.history))
        torch.rand(5)
        result.history.clear()
        result.model.eval()

    one = zoo.finetune(tiny_net(), few_digits(), out=tmp_path / "a", callbacks=[draw], **QUICK)
    two = zoo.finetune(tiny_net(), few_digits(), out=tmp_path / "b", **QUICK)
    assert len(one.history) == 2
    for name, value in two.model.state_dict().items():
        assert torch.equal(value, one.model.state_dict()[name]), name


class Pruned(Exception):  # noqa: N818 - as Optuna calls it
    """What a search raises to end a trial."""


def test_an_error_ends_the_run_which_can_be_resumed(tmp_path: Path) -> None:
    def prune(result: Result) -> None:
        if len(result.history) == 2:
            raise Pruned

    options = {**QUICK, "epochs": 4}
    with pytest.raises(Pruned):
        zoo.finetune(tiny_net(), few_digits(), out=tmp_path / "a", callbacks=[prune], **options)
    again = zoo.finetune(tiny_net(seed=3), few_digits(), out=tmp_path / "a", **options)
    whole = zoo.finetune(tiny_net(), few_digits(), out=tmp_path / "b", **options)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [([3], r"a list of functions of one argument .*got 3"), (print, r"itself: callbacks=\[print\]")],
)
def test_what_cannot_be_called_is_refused(tmp_path: Path, callbacks: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        zoo.finetune("no such model", "no such data", out=tmp_path / "run", callbacks=callbacks, **QUICK)


def test_a_comparison_needs_what_can_be_sent(tmp_path: Path) -> None:
    with pytest.raises(
        TypeError, match=r"callbacks is sent to .* a list cannot be \(.*\); define it in a file that can"
    ):
        zoo.compare(
            "test_resnet", "digits", head=["none", "kan"], out=tmp_path / "run", img_size=32, callbacks=[lambda r: None]
        )


SCRIPT = """
import json, sys
from tests.training.test_processes import few_digits, plain_net
import zoo
calls = []
zoo.finetune(plain_net(), few_digits(), out=sys.argv[1], callbacks=[lambda r: calls.append(len(r.history))],
             **json.loads(sys.argv[2]))
print(json.dumps(calls))
"""


@pytest.mark.ci_long
def test_the_first_process_calls(tmp_path: Path) -> None:
    assert launch(tmp_path, script=SCRIPT, **{**QUICK, "batch_size": 8}) == [[1, 2], []]


def test_a_result_publishes_its_best_model(tmp_path: Path) -> None:
    result = zoo.finetune(
        "test_resnet", few_digits(), out=tmp_path / "run", img_size=32, **{**QUICK, "epochs": 1, "lr": 1e-3}
    )
    pushed = result.push("someone/digits", license="apache-2.0", dry_run=True)
    assert {"model.safetensors", "config.json", "README.md"} <= set(pushed.files)
    assert f"{result.metrics['accuracy']:.2f}"[:3] in pushed.card
    rows = json.loads((tmp_path / "run" / "history.json").read_text())
    assert rows == result.history
    page = result.report()
    assert page.parent == tmp_path / "run"
    assert "test_resnet" in page.read_text()
