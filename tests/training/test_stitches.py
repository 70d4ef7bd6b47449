"""Measuring all paths of a stitched network, and choosing among them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset
from typer.testing import CliRunner

import zoo
from tests.models.stitching.published import rows_of_table, tiny
from zoo.cli import app
from zoo.device import as_it_was
from zoo.errors import DataError, UnknownStitchError

torch.manual_seed(0)
X, Y = torch.randn(40, 3, 32, 32), torch.randint(0, 7, (40,))


def net_of(**options: Any) -> Any:
    torch.manual_seed(1)
    net = tiny(cuts="paired", **options)
    net.init_stitches(X)
    return net


def loader(**options: Any) -> DataLoader:
    return DataLoader(TensorDataset(X, Y), batch_size=16, **options)


def test_all_paths_at_once_are_each_by_itself(tmp_path: Path) -> None:
    net = net_of()
    net.anchors[1].eval()
    modes = [module.training for module in net.modules()]
    rows = zoo.evaluate_stitches(net, loader(), out=tmp_path / "rows.json", remember=True, progress=False)
    assert [module.training for module in net.modules()] == modes
    assert [row["id"] for row in rows] == [config.id for config in net._configs]
    net.eval()
    for row, config in zip(rows, net.stitches, strict=True):
        with torch.no_grad():
            right = (net(X, stitch=config.id).argmax(1) == Y).sum()
        assert row["top1"] == pytest.approx(100 * float(right) / 40)
        assert (row["flops"], row["params"], row["samples"]) == (config.flops, config.params, 40)
    assert net.top1 == {row["id"]: row["top1"] for row in rows}
    kept = json.loads((tmp_path / "rows.json").read_text())
    assert kept["samples"] == 40
    assert [row["top1"] for row in kept["rows"]] == [row["top1"] for row in rows]
    assert zoo.pareto(kept["rows"])[0]["flops"] == min(row["flops"] for row in rows)
    with pytest.raises(FileExistsError, match="is there already"):
        zoo.evaluate_stitches(net, loader(), out=tmp_path / "rows.json")


def test_data_as_of_evaluate() -> None:
    net = zoo.stitch(
        [
            {"name": "vit_tiny_patch16_224", "patch_size": 4, "embed_dim": w, "num_heads": 2, "depth": 2}
            for w in (16, 24)
        ],
        num_classes=10,
        in_chans=1,
        img_size=8,
    )
    net.init_stitches(torch.randn(50, 1, 8, 8))
    rows = zoo.evaluate_stitches(net, "digits", ids=[2, 0], batch_size=100, progress=False)
    assert [row["id"] for row in rows] == [2, 0]
    for row in rows:
        with net.using(row["id"]):
            one = zoo.evaluate(net, "digits", progress=False)
        assert row["top1"] == pytest.approx(100 * one["accuracy"])
        assert row["samples"] == one["samples"]
    assert net.top1 == {}


def test_blocks_that_paths_have_in_common_run_once() -> None:
    net = net_of()
    assert net.stitches[0].flops  # counted by running the blocks, too
    counts = [0, 0, 0]
    for number, model in enumerate(net.anchors):
        model.get_submodule("blocks.0").register_forward_pre_hook(
            lambda *_, number=number: counts.__setitem__(number, counts[number] + 1)
        )
    zoo.evaluate_stitches(net, loader(), progress=False)
    inner = [sum(c.anchors[-1] == a and c.cuts[-1][1] == 0 for c in net._configs if c.cuts) for a in range(3)]
    assert counts == [3 * (1 + joined) for joined in inner]  # 3 batches: once from its own stem, once from each layer


def test_what_cannot_be_measured() -> None:
    net = net_of()
    with pytest.raises(UnknownStitchError, match="there is no stitch 99"):
        zoo.evaluate_stitches(net, loader(), ids=[99])
    with pytest.raises(ValueError, match="names no path"):
        zoo.evaluate_stitches(net, loader(), ids=[])
    with pytest.raises(TypeError, match="measures stitched networks"):
        zoo.evaluate_stitches(net.anchors[0], loader())
    with pytest.raises(DataError, match="pairs of tensors"):
        zoo.evaluate_stitches(net, DataLoader(TensorDataset(X)), progress=False)
    assert net.training


@pytest.mark.parametrize(("table", "size"), [("deit_ti_s_b", 39), ("swin_ti_s_b", 24)])
def test_the_front_of_the_published_tables(table: str, size: int, tmp_path: Path) -> None:
    rows = rows_of_table(table)
    front = zoo.pareto(rows)
    assert len(front) == size
    for row in rows:
        beaten = any(o["flops"] <= row["flops"] and o["top1"] > row["top1"] for o in front)
        assert beaten == (row not in front) or any(
            o["top1"] == row["top1"] and o["flops"] <= row["flops"] for o in front
        )
    named = [{**row, "cuts": row["stitches"]} for row in rows]
    figure = zoo.plot_pareto(named, tmp_path / "front.png", title="published")
    assert (tmp_path / "front.png").stat().st_size > 10_000
    (axes,) = figure.axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == [f"{size} of {len(rows)} that no other beats", "paths", "anchors"]
    assert len(axes.lines[0].get_xdata()) == size


def test_fronts_by_other_costs_and_of_stitches() -> None:
    rows = [
        {"id": 0, "params": 3, "flops": 1, "top1": 50.0},
        {"id": 1, "params": 1, "flops": 2, "top1": 50.0},
        {"id": 2, "params": 2, "flops": 2, "top1": 60.0},
    ]
    assert [row["id"] for row in zoo.pareto(rows)] == [0, 2]
    assert [row["id"] for row in zoo.pareto(rows, "params")] == [1, 2]
    net = net_of()
    net.top1 = {number: float(number) for number in range(17)}
    assert zoo.pareto(net.stitches)[-1].id == 16
    with pytest.raises(ValueError, match=r"the row of path 0 has no latency; net\.latency has them"):
        zoo.pareto(rows, "latency")
    with pytest.raises(ValueError, match=r"cost must be one of flops, .* did you mean 'params'"):
        zoo.pareto(rows, "param")
    with pytest.raises(ValueError, match="no row to draw"):
        zoo.plot_pareto([])


def command(*words: Any) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_on_the_command_line(tmp_path: Path) -> None:
    listed = command("stitches", "snnet_levit_192_256", "--budget-flops", 8e8)
    assert listed.exit_code == 0, listed.output
    rows = [line.split("\t") for line in listed.stdout.splitlines()]
    assert rows[0][:4] == ["0", "levit_192", "–", "–"]
    assert all(row[4].endswith(" M") and float(row[4].split()[0]) <= 800 for row in rows)
    nano = [line.split("\t") for line in command("stitches", "snnet_vit_nano").stdout.splitlines()]
    assert [row[1] for row in nano[:2]] == [
        "vit_tiny_patch16_224 (width 16)",
        "vit_tiny_patch16_224 (width 16) → (width 32)",
    ]
    assert nano[0][6] == "94.44"  # of the weights that the name means
    known = json.loads(command("stitches", "snnet_levit_192_256", "--json").stdout)
    assert len(known) == 8
    refused = command("stitches", "snnet_levit_192_256", "--budget-flops", 1e6)
    assert refused.exit_code == 1
    assert "cheapest" in refused.output
    assert "is no stitched network" in command("stitches", "test_vit").output
    net = net_of()
    zoo.save_pretrained(net, tmp_path / "net")
    done = command("export", tmp_path / "net", "--stitch", 4, "--out", tmp_path / "path.pt2", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["error"] < 1e-5


def test_weights_that_were_let_go_cannot_be_measured() -> None:
    net = net_of()
    net.set_stitch(0)
    net.offload_unused()
    with pytest.raises(UnknownStitchError, match="the weights of stitch 1 were let go"):
        zoo.evaluate_stitches(net, loader(), progress=False)
    with pytest.raises(UnknownStitchError, match=r"measure this one by zoo.evaluate\(net.export\(\)"):
        zoo.evaluate_stitches(net, loader(), ids=[0], progress=False)
    net = net_of()
    net.set_stitch(1)
    net.offload_unused()  # the first weights, too
    with as_it_was(net):
        net.to("cpu")
    assert not any(p.is_meta for p in net.anchors[1].parameters())
