"""Pictures of KANs: curves over the data, the graph without what was pruned, bars of scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from zoo import explain
from zoo.explain.figure import told_apart
from zoo.layers.kan import KAN, KANLinear
from zoo.models.kan_tabular import kan_tabular


def network(*sizes: Any, **options: Any) -> tuple[KAN, torch.Tensor]:
    torch.manual_seed(0)
    kan = KAN(sizes or (3, 2, 2), **options)
    return kan, 2 * torch.rand(100, kan.layers[0].in_features) - 1


def lines(axes: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in axes.lines]


def drawn(figure: Any, what: str) -> set[str]:
    return {line.get_gid() for line in figure.axes[0].lines if str(line.get_gid()).startswith(what)}


def test_curves_are_those_of_the_edges() -> None:
    kan, x = network()
    figure = explain.edge_curves(kan, x, edges=[(2, 1), (0, 0)], feature_names=["a", "b", "c"])
    for axes, (i, o, title) in zip(figure.axes, ((2, 1, "c → node 1"), (0, 0, "a → node 0")), strict=True):
        ((at, curve),) = lines(axes)
        assert at[0] == pytest.approx(float(x[:, i].min()))
        assert at[-1] == pytest.approx(float(x[:, i].max()))
        wanted = kan.layers[0].edge_curve(torch.tensor(at, dtype=torch.float32), i, o).detach()
        np.testing.assert_allclose(curve, wanted, atol=1e-5)
        deviation = float(kan.layers[0].edge_curve(x[:, i], i, o).detach().std())
        assert axes.get_title() == f"{title}\n{deviation:.2g}"
    assert len({axes.get_ylim() for axes in figure.axes}) == 1


def test_the_bars_are_how_often_arguments_are_seen() -> None:
    kan, x = network(1, 1)
    x[:90], x[90:, 0] = 0.5, torch.linspace(-1, 1, 10)
    (axes,) = explain.edge_curves(kan, x).axes
    highest = max(axes.patches, key=lambda bar: bar.get_height())
    assert highest.get_x() <= 0.5 <= highest.get_x() + highest.get_width()
    heights = [bar.get_height() for bar in axes.patches]
    assert sum(heights) == pytest.approx(max(heights) * 100 / 90, rel=1e-5)


def test_the_strongest_edges_come_first_and_masked_ones_not_at_all() -> None:
    kan, x = network(3, 4)
    layer = kan.layers[0]
    with torch.no_grad():
        layer.edge_scale[1, 2], layer.base_weight[1, 2] = 50.0, 5.0
    keep = torch.ones(4, 3, dtype=torch.bool)
    keep[0, 0] = keep[3, 1] = False
    layer.mask_edges(keep)
    titles = [axes.get_title().split("\n") for axes in explain.edge_curves(kan, x, output_names=list("pqrs")).axes]
    shown = [title[0] for title in titles if title[0]]
    assert shown[0] == "x2 → q"
    assert len(shown) == 10
    assert {"x0 → p", "x1 → s"}.isdisjoint(shown)
    deviations = [float(title[1]) for title in titles if title[0]]
    assert deviations == sorted(deviations, reverse=True)


def test_columns_are_in_their_units() -> None:
    torch.manual_seed(0)
    model = kan_tabular(2, in_features=2, feature_names=["mass", "length"], feature_units=["kg", "m"], hidden_sizes=[3])
    model.pretrained_cfg["label_names"] = ["no", "yes"]
    x = torch.stack((100 + 20 * torch.rand(50), torch.rand(50)), 1)
    model.fit_scaling(x)
    figure = explain.edge_curves(model, x, edges=[(0, 1)])
    ((at, curve),) = lines(figure.axes[0])
    assert (at[0], at[-1]) == pytest.approx((float(x[:, 0].min()), float(x[:, 0].max())), rel=1e-5)
    assert figure.axes[0].get_xlabel() == "kg"
    points = (torch.tensor(at) - model.scaling.mean[0]) / model.scaling.std[0]
    wanted = model.kan.layers[0].edge_curve(points.float(), 0, 1).detach()
    np.testing.assert_allclose(curve, wanted, atol=1e-4)
    last = explain.edge_curves(model, x, layer=-1, edges=[(2, 1)])
    assert last.axes[0].get_title().startswith("node 2 → yes")
    texts = {text.get_text() for text in explain.network_graph(model, x).axes[0].texts}
    assert texts == {"mass", "length", "no", "yes"}


def test_behind_a_norm_arguments_are_what_comes_out_of_it() -> None:
    kan, x = network(4, 2, layer=KANLinear.fast)
    ((at, _),) = lines(explain.edge_curves(kan, x, edges=[(1, 0)]).axes[0])
    normed = kan.layers[0].normalised(x)[:, 1].detach()
    assert (at[0], at[-1]) == pytest.approx((float(normed.min()), float(normed.max())), rel=1e-4)


def test_the_graph_has_what_is_left_after_pruning() -> None:
    kan, x = network(3, 4, 1)
    figure = explain.network_graph(kan, x)
    assert len(drawn(figure, "edge")) == 16
    assert len(drawn(figure, "node")) == 8
    keep = torch.zeros(4, 3, dtype=torch.bool)
    keep[1, 0] = keep[1, 2] = True
    kan.layers[0].mask_edges(keep)
    kan.layers[1].mask_edges(torch.tensor([[False, True, False, False]]))
    figure = explain.network_graph(kan, x)
    assert drawn(figure, "edge") == {"edge 0 0 1", "edge 0 2 1", "edge 1 1 0"}
    assert drawn(figure, "node") == {"node 0 0", "node 0 2", "node 1 1", "node 2 0"}


def test_an_edge_is_as_dark_as_its_score_is_high() -> None:
    kan, x = network(2, 2)
    (scores,) = kan.edge_scores(x)
    figure = explain.network_graph(kan, x)
    for line in figure.axes[0].lines:
        if str(line.get_gid()).startswith("edge"):
            _, _, i, o = str(line.get_gid()).split()
            assert line.get_alpha() == pytest.approx(max(float(scores[int(o), int(i)] / scores.max()), 0.12), rel=1e-4)


def test_only_the_strongest_edges_of_a_layer() -> None:
    kan, x = network(6, 5)
    (scores,) = kan.edge_scores(x)
    figure = explain.network_graph(kan, x, most=9)
    firsts = {(o, int(scores[o].argmax())) for o in range(5)}  # no output hangs without an edge
    others = [(int(k) // 6, int(k) % 6) for k in scores.flatten().argsort(descending=True)]
    wanted = firsts | set([edge for edge in others if edge not in firsts][:4])
    assert drawn(figure, "edge") == {f"edge 0 {i} {o}" for o, i in wanted}
    assert figure.get_suptitle() == "the strongest edges; 21 others are not drawn"


def test_what_is_drawn_leads_to_an_output() -> None:
    kan, x = network(10, 15, 15, 5)
    edges = [tuple(map(int, edge.split()[1:])) for edge in drawn(explain.network_graph(kan, x), "edge")]
    for number in range(3):
        ends = {o for layer, _, o in edges if layer == number}
        wanted = {i for layer, i, _ in edges if layer == number + 1} if number < 2 else set(range(5))
        assert ends == wanted


def test_what_is_constant_is_not_drawn() -> None:
    kan, x = network(3, 2)
    x[:, 1] = 0.3
    assert all("x1" not in axes.get_title() for axes in explain.edge_curves(kan, x).axes)
    assert {edge.split()[2] for edge in drawn(explain.network_graph(kan, x), "edge")} == {"0", "2"}
    with pytest.raises(ValueError, match="masked or constant over x"):
        explain.edge_curves(kan, torch.ones(9, 3))


def test_long_names_stay_apart() -> None:
    kan, x = network(3, 1)
    names = [f"MagpieData {what}" for what in ("mean Electronegativity", "range Electronegativity", "mean MeltingT")]
    titles = {axes.get_title().split("\n")[0] for axes in explain.edge_curves(kan, x, feature_names=names).axes}
    assert titles == {"mean Electronegativity", "range Electronegativity", "mean MeltingT → y0"}
    texts = {text.get_text() for text in explain.network_graph(kan, x, feature_names=names).axes[0].texts}
    assert texts == {"mean Electronegativity", "range Electronegativity", "mean MeltingT", "y0"}
    assert told_apart(["a long name of a column", "b"], 11) == ["a lon…olumn", "b"]


def test_factors_of_a_product_end_in_one_node() -> None:
    kan, x = network(2, (1, 1), 1)
    figure = explain.network_graph(kan, x)
    assert len(drawn(figure, "edge 0")) == 6  # three sub-nodes
    assert drawn(figure, "node 1") == {"node 1 0", "node 1 1"}
    squares = {line.get_gid() for line in figure.axes[0].lines if line.get_marker() == "s"}
    assert squares == {"node 1 1"}


def test_a_model_with_a_kan_somewhere() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 3), KANLinear(3, 2)).train()
    x = torch.randn(20, 4, 5)
    part = explain.kan_part(model, x)
    torch.testing.assert_close(part.rows, model[0](x).flatten(0, 1))
    assert (part.feature_names, part.output_names, part.scale) == (["x0", "x1", "x2"], ["y0", "y1"], None)
    assert model.training
    assert len(drawn(explain.network_graph(model, x), "edge")) == 6


def test_bars_are_the_scores_in_order(tmp_path: Any) -> None:
    scores = {"l1": torch.tensor([0.1, 0.7, 0.2]), "knockout": torch.tensor([0.0, -1.0, 1.0])}
    figure = explain.importance_chart(scores, ["a", "b", "c"], top=2, path=tmp_path / "bars.png")
    assert (tmp_path / "bars.png").stat().st_size > 1000
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["b", "c"]
    widths = [[bar.get_width() for bar in axes.patches] for axes in figure.axes]
    np.testing.assert_allclose(widths, [[0.7, 0.2], [-1.0, 1.0]], rtol=1e-6)
    assert figure.get_suptitle() == "the 2 highest of 3 scores"


def test_a_series_brings_its_names() -> None:
    figure = explain.importance_chart(pd.Series([0.1, 0.9], ["grain", "valence"]))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["valence", "grain"]


def test_refusals() -> None:
    kan, x = network()
    cases = (
        (lambda: explain.edge_curves(nn.Linear(3, 2), x), "Linear has no KAN"),
        (lambda: explain.edge_curves(nn.ModuleList([kan, network()[0]]), x), "the model has 2 KANs; name one of"),
        (lambda: explain.edge_curves(kan, x, layer=2), "layer must be from -2 to 1, got 2"),
        (lambda: explain.edge_curves(kan, x, edges=[(3, 0)]), r"pairs \(input, output\) below \(3, 2\), got \(3, 0\)"),
        (lambda: explain.edge_curves(kan, x[:1]), r"two rows at least.* got \(1, 3\)"),
        (lambda: explain.edge_curves(kan, x / torch.tensor([1, 0, 1])), r"x must be finite, x\[0, 1\] is -?inf"),
        (lambda: explain.edge_curves(kan, x, edges=[]), "there is no edge to draw"),
        (lambda: explain.edge_curves(kan, x, feature_names=["a"]), "feature_names must be 3 names, got 1"),
        (lambda: explain.network_graph(kan, x, most=0), "most must be at least 1, got 0"),
        (lambda: explain.importance_chart(torch.rand(2, 2)), r"scores must be \(features,\)"),
        (lambda: explain.importance_chart(torch.tensor([1.0, float("nan")])), "NaN or infinity"),
        (lambda: explain.importance_chart({"a": torch.rand(2), "b": torch.rand(3)}), r"same features, got \[2, 3\]"),
    )
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match=r"got DataFrame; torch.tensor\(x.to_numpy\(\), dtype=torch.float32\)"):
        explain.edge_curves(kan, pd.DataFrame(x.numpy()))
