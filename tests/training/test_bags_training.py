"""Training on bags: standardised features, huge bags, runs that are cut off, two processes, memory, and its words."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import zoo
from tests.training.test_bags import CALM, SMALL, image_bags, some_bags
from tests.training.test_processes import launch
from zoo.errors import DataError
from zoo.training.checkpoint import checkpoints
from zoo.training.data.bags import BagSet, ragged_bags
from zoo.training.data.bags_batch import Bags
from zoo.training.data.loader import batches
from zoo.training.preparation import pipeline_for
from zoo.training.standardise import statistics

RUN: dict[str, Any] = {"epochs": 2, "batch_size": 8, "lr": 5e-3, "model_args": SMALL, **CALM}


def in_other_units(count: int = 60, seed: int = 0) -> dict[str, np.ndarray]:
    """`some_bags` as an instrument may give them: far from 0, one feature in thousands, one that never changes."""
    rows, offsets, labels = some_bags(count, seed)
    rows = rows * np.array([1000, 1, 0.01, 1]) + np.array([5e4, -3, 7, 0])
    return {"rows": np.c_[rows, np.full(len(rows), 0.1)].astype(np.float32), "offsets": offsets, "labels": labels}


def test_features_are_standardised_by_the_training_instances(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = in_other_units()
    result = zoo.finetune("hopfield_mil", data, out=tmp_path / "run", **{**RUN, "epochs": 12, "progress": True})
    assert result.metrics["accuracy"] >= 0.9
    chosen = ragged_bags(data["rows"], data["offsets"], data["labels"], "mine")
    learned = zoo.training.data.open_splits(data).train
    assert isinstance(learned, BagSet)
    assert len(learned) < len(chosen)
    rows = np.concatenate([data["rows"][place] for place in learned.places]).astype(np.float64)
    config = zoo.data_config(result.model)
    np.testing.assert_allclose(config["mean"], rows.mean(0), rtol=1e-6)
    np.testing.assert_allclose(config["std"], [*rows.std(0)[:4], 1], rtol=1e-6)
    assert f"by the {len(rows)} training instances" in capsys.readouterr().err
    # The published model does the same to raw features.
    again = zoo.create_model(f"local-dir:{tmp_path / 'run' / 'best'}")
    assert zoo.data_config(again) == config
    bags = in_other_units(30, seed=3)
    pipeline = pipeline_for(again, ragged_bags(*bags.values(), "new"))
    first = pipeline(torch.from_numpy(bags["rows"]), "new").instances
    wanted = (bags["rows"].astype(np.float64) - config["mean"]) / config["std"]
    np.testing.assert_allclose(first, wanted, rtol=1e-2, atol=1e-3)
    assert zoo.evaluate(again, bags, progress=False)["accuracy"] >= 0.9


def test_standardised_or_not_as_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A trained model goes on as it was trained, unless it is said otherwise."""
    data, other = in_other_units(), in_other_units(seed=4)
    first = {out: zoo.finetune("hopfield_mil", data, out=tmp_path / out, standardise=how, **RUN)
             for out, how in (("on", "auto"), ("off", False))}  # fmt: skip
    assert zoo.data_config(first["off"].model)["mean"] is None
    options = {**RUN, "model_args": None, "progress": True}
    for out, words in (("on", "as the model was trained"), ("off", "as they are, for the model was trained so")):
        again = zoo.finetune(tmp_path / out, other, out=tmp_path / f"{out}2", **options)
        assert zoo.data_config(again.model) == zoo.data_config(first[out].model)
        assert words in capsys.readouterr().err
    fitted = zoo.finetune(tmp_path / "on", other, out=tmp_path / "on3", standardise=True, **options)
    assert zoo.data_config(fitted.model)["mean"] != zoo.data_config(first["on"].model)["mean"]
    with pytest.raises(ValueError, match="standardise must be 'auto', True or False, got 'yes'"):
        zoo.finetune("hopfield_mil", data, standardise="yes", **RUN)
    with pytest.raises(ValueError, match="standardise is for bags of vectors"):
        zoo.finetune("hopfield_mnist_bags", f"bags:{image_bags(tmp_path / 'data')}", standardise=True, **CALM)
    with pytest.raises(ValueError, match="exchanges parts of models of images, the data are bags"):
        zoo.compare("hopfield_mil", data, head=["none", "kan"], progress=False)
    with pytest.raises(ValueError, match="max_instances is for bags of instances, the data are images"):
        zoo.finetune("resnet10t", "digits", max_instances=3, **CALM)


def test_statistics_of_features_that_cannot_be_standardised() -> None:
    rows = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    large = ragged_bags(rows * 1e9, [0, 20, 40], [0, 1], "large")
    with pytest.raises(DataError, match=r"feature 0 of large has mean .* cannot be standardised.*another unit"):
        statistics(large)
    with pytest.raises(DataError, match="feature 0 of small has mean"):
        statistics(ragged_bags(rows * 1e-9, [0, 20, 40], [0, 1], "small"))


def test_huge_bags_are_drawn_from() -> None:
    """So many of a bag's instances, others each epoch, the same ones each time; a small bag is whole."""
    rows, offsets, labels = some_bags(8)
    rows[:, 0] = np.arange(len(rows))
    bags = ragged_bags(rows, offsets, labels, "mine").at_most(3)
    model = zoo.create_model("hopfield_mil", dim=4)

    def drawn(epoch: int) -> list[Tensor]:
        (batch,) = batches(bags, pipeline_for(model, bags), [list(range(8))], seed=1, epoch=epoch)
        assert isinstance(batch.images, Bags)
        return [bag[:, 0] for bag in batch.images.by_bag(batch.images.instances)]

    sizes = np.diff(offsets).tolist()
    assert [len(bag) for bag in drawn(0)] == [min(3, size) for size in sizes]
    assert all(map(torch.equal, drawn(0), drawn(0)))
    assert not all(map(torch.equal, drawn(0), drawn(1)))
    seen = [torch.cat(both).unique() for both in zip(*(drawn(epoch) for epoch in range(40)), strict=True)]
    assert [one.tolist() for one in seen] == [list(range(a, b)) for a, b in itertools.pairwise(offsets)]


class Interrupting(BagSet):
    """Interrupts its own process when its n-th bag is fetched."""

    at: int | None = None

    def image(self, index: int) -> Any:
        if self.at is not None:
            self.at -= 1
            if self.at == 0:
                os.kill(os.getpid(), signal.SIGINT)
        return super().image(index)


def test_resumed_in_the_same_weights(tmp_path: Path) -> None:
    rows, offsets, labels = some_bags(32)
    plain = ragged_bags(rows, offsets, labels, "mine")
    options = {**RUN, "epochs": 3, "max_instances": 4, "val": False, "model_args": {**SMALL, "attn_drop": 0.3}}
    made = Interrupting(rows, plain.places, plain.labels, plain.classes, name="mine")
    zoo.finetune("hopfield_mil", made, out=tmp_path / "whole", **options)
    made.at = 32 + 12
    with pytest.raises(KeyboardInterrupt, match="stopped after update"):
        zoo.finetune("hopfield_mil", made, out=tmp_path / "cut", **options)
    made.at = None
    zoo.finetune("hopfield_mil", made, out=tmp_path / "cut", **options)
    newest = (checkpoints(tmp_path / run / "checkpoints")[-1] for run in ("whole", "cut"))
    one, two = (load_file(folder / "model.safetensors") for folder in newest)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_published_with_its_statistics(tmp_path: Path, hub: Any) -> None:
    """Whoever loads a model from the Hub gives it raw features."""
    data = in_other_units()
    result = zoo.finetune("hopfield_mil", data, out=tmp_path / "run", **{**RUN, "epochs": 8})
    zoo.push_to_hub(result.model, "alice/slides", license="mit")
    one, two = (zoo.evaluate(model, data, progress=False) for model in (tmp_path / "run", "hf-hub:alice/slides"))
    assert one == two
    assert one["accuracy"] >= 0.8


SCRIPT = """
import json, sys
from tests.training.test_bags_training import in_other_units
import zoo
data = in_other_units(40)
result = zoo.finetune("hopfield_mil", data, out=sys.argv[1], **json.loads(sys.argv[2]))
print(json.dumps(result.metrics))
"""


def test_two_processes_equal_one(tmp_path: Path) -> None:
    options = {**RUN, "opt": "sgd", "lr": 0.05, "max_instances": 4}
    alone = zoo.finetune("hopfield_mil", in_other_units(40), out=tmp_path / "one", **options)
    answers = launch(tmp_path / "two", script=SCRIPT, **{**options, "batch_size": 4})
    assert answers[0] == answers[1]
    assert answers[0]["loss"] == pytest.approx(alone.metrics["loss"], rel=1e-4)
    one, two = (load_file(tmp_path / run / "best" / "model.safetensors") for run in ("one", "two"))
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-4, atol=1e-5)


class Cramped(nn.Module):
    """Passes instances on, if there are not too many."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) > 30:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return x


def test_a_batch_that_fits_has_room_for_the_largest_bags(tmp_path: Path) -> None:
    """Two bags of 15 may meet, so four of which these are two do not fit, though they would in the first epoch."""
    sizes = [15, *[2] * 14, 15]
    rows = np.random.default_rng(0).normal(size=(sum(sizes), 4)).astype(np.float32)
    data = {"rows": rows, "offsets": np.cumsum([0, *sizes]), "labels": np.arange(16) % 2}
    model = zoo.create_model("hopfield_mil", dim=4, **SMALL)
    model.embed = nn.Sequential(Cramped(), *model.embed)
    zoo.finetune(model, data, out=tmp_path, val=False, **{**RUN, "model_args": None, "batch_size": "auto:4"})
    assert json.loads((tmp_path / "args.json").read_text())["options"]["batch_size"] == 2


def test_bags_are_called_bags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    zoo.finetune("hopfield_mil", in_other_units(), out=run, **{**RUN, "progress": True})
    zoo.evaluate(run, in_other_units(seed=1))
    said = capsys.readouterr().err
    assert "12 of 60 training bags are held out" in said
    assert "48 train, 12 val bags" in said
    assert "60 bags are taken" in said
    assert " bags/s" in said
    assert "image" not in said
    assert "img" not in said
    zoo.report(run, data=in_other_units())
    page = re.sub(r"<(style|script|svg).*?</\1>", "", (run / "report.html").read_text(), flags=re.DOTALL)
    assert "val split, 12 bags" in page
    assert '<th scope="col">val bags</th>' in page


def test_what_is_for_images_is_not_recorded_of_vectors(tmp_path: Path) -> None:
    run = tmp_path / "run"
    zoo.finetune("hopfield_mil", in_other_units(), out=run, **RUN)
    options = json.loads((run / "args.json").read_text())["options"]
    assert {"aug", "hflip", "transform", "scale", "mixup", "cutmix", "img_size"}.isdisjoint(options)
    training = json.loads((run / "best" / "config.json").read_text())["zoo"]["training"]
    assert {"aug", "hflip", "transform"}.isdisjoint(training)
    columns = (run / "history.csv").read_text().partition("\n")[0].split(",")
    assert "bags_per_second" in columns
    assert "images_per_second" not in columns
    zoo.report(run, data=in_other_units())
    page = (run / "report.html").read_text()
    assert "bags per second" in page
    assert "hflip" not in page
    # The same call finds the finished run, whose settings are the same.
    again = zoo.finetune("hopfield_mil", in_other_units(), out=run, **RUN)
    assert again.history == json.loads((run / "history.json").read_text())


def listed(page: str) -> list[list[tuple[str, str]]]:
    """Of each bag in a report the (name, weight) of its instances."""
    lists = re.findall(r'<ol class="instances.*?</ol>', page, flags=re.DOTALL)
    return [re.findall(r'<li title="([^"]*)">.*?<b>([^<]*)</b>', one) for one in lists]


def test_the_report_shows_the_heaviest_instances(tmp_path: Path) -> None:
    run = tmp_path / "run"
    zoo.finetune("hopfield_mil", in_other_units(), out=run, **RUN)
    zoo.report(run, data=in_other_units(), worst=12)
    page = (run / "report.html").read_text()
    held_out = zoo.training.data.open_splits(in_other_units()).val
    wanted = []
    for answer in zoo.predict(run, held_out):
        best = sorted(answer["instances"], key=lambda one: -one["weight"])[:4]
        wanted.append([(one["instance"], f"{one['weight']:.3f}") for one in best])
    assert sorted(listed(page)) == sorted(wanted)  # every bag, in the order of losses
    assert "instances that weigh most in the answer" in page
    assert "no picture" not in page


def test_the_report_shows_instances_that_are_images(tmp_path: Path) -> None:
    folder = f"bags:{image_bags(tmp_path / 'data')}"
    zoo.finetune("hopfield_mnist_bags", folder, out=tmp_path / "run", **{**RUN, "epochs": 1, "model_args": None})
    zoo.report(tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count('<ol class="instances seen">') == len(listed(page)) > 0
    shown = re.findall(r'<li title="([^"]*)"><img src="data:image/png;base64,[^"]+" width="28" height="28"', page)
    assert all(Path(name).is_file() for name in shown)
    assert len(shown) == 3 * len(listed(page))  # all of three instances


def test_a_model_that_tells_no_weights_is_reported_without(tmp_path: Path) -> None:
    class Mean(nn.Module):
        instance_shape = (5,)

        def __init__(self) -> None:
            super().__init__()
            self.num_classes, self.head = 2, nn.Linear(5, 2)

        def forward(self, x: Tensor, padding_mask: Tensor) -> Tensor:
            return self.head(torch.where(padding_mask[..., None], 0, x).sum(1) / (~padding_mask).sum(1, keepdim=True))

    data = {**in_other_units(), "rows": in_other_units()["rows"] / 1e4}
    zoo.finetune(Mean(), data, out=tmp_path, **{**RUN, "model_args": None})
    zoo.report(tmp_path, data=data, model=Mean())
    page = (tmp_path / "report.html").read_text()
    assert listed(page) == []
    assert "weigh most" not in page
