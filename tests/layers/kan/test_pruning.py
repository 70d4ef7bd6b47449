"""Pruning: what is left computes what the network with the same edges at 0 computes."""

import copy

import pytest
import torch

from tests.layers.answers import answers
from tests.layers.kan.samples import network, rows
from zoo.layers.kan import KAN, KANLinear


def _silenced(model, pruned):
    """The network as it was before, with the removed nodes' outgoing edges and the masked edges set to 0."""
    left = [list(range(model.layers[0].in_features))]
    for i, (layer, gone) in enumerate(zip(model.layers, [*pruned.nodes, []], strict=True)):
        nodes = model.nodes[i] if model.nodes is not None else None
        count = layer.out_features if nodes is None else nodes.num_nodes
        left.append([n for n in range(count) if n not in gone])
        outputs = left[-1] if nodes is None else nodes.subnodes_of(left[-1])
        keep = torch.zeros(layer.out_features, layer.in_features, dtype=torch.bool)
        keep[:, left[-2]] = True
        for row, edges in zip(outputs, pruned.edges[i], strict=True):
            for column, edge in zip(left[-2], edges, strict=True):
                keep[row, column] &= ~edge
        layer.mask_edges(keep)
    return model


@pytest.mark.parametrize("sizes", [[3, 5, 2], [3, (3, 2), 2], [3, 5, 4, 2]], ids=str)
@pytest.mark.parametrize("affine", [False, True])
def test_what_is_left_computes_the_same_as_edges_of_0(sizes, affine):
    model, x = network(sizes, affine=affine, bias=True), rows(60, 3)
    model.update_grid(x)  # knots of each input must go with theirs
    with torch.no_grad():
        model.layers[1].edge_scale[:, [1, 3]] *= 1e-4  # nodes whose outgoing edges carry nothing
        model.layers[1].base_weight[:, [1, 3]] *= 1e-4
        model.layers[0].edge_scale[0, 2] *= 1e-4
        model.layers[0].base_weight[0, 2] *= 1e-4
    before = copy.deepcopy(model)
    pruned = model.prune(x)
    assert pruned.nodes[0] == [1, 3]
    assert pruned.edges[0][0, 2]
    assert pruned.spared == []
    first = sizes[1] - 2 if isinstance(sizes[1], int) else (2, 1)
    assert model.sizes == [3, first, *sizes[2:]]
    torch.testing.assert_close(model(x), _silenced(before, pruned)(x))
    again = KAN(model.sizes, affine=affine, bias=True, dtype=torch.float64)
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again(x), model(x), rtol=0, atol=0)


def test_edges_above_the_threshold_stay():
    model, x = network([3, 4, 2]), rows(60, 3)
    scores = model.edge_scores(x)
    threshold = float(scores[0].flatten().sort().values[3])
    pruned = model.prune(x, node_threshold=0.0, edge_threshold=threshold)
    assert pruned.nodes == [[]]
    for edges, score, layer in zip(pruned.edges, scores, model.layers, strict=True):
        assert torch.equal(edges, score <= threshold)
        if edges.any():
            assert torch.equal(layer.mask, ~edges)
    assert not any(edges.any() for edges in model.prune(x, 0.0, threshold / 100).edges)  # nothing goes twice


def test_nothing_to_prune_changes_nothing():
    model, x = network([3, 4, 2]), rows(60, 3)
    state = copy.deepcopy(model.state_dict())
    model.prune(x, 0.0, 0.0)
    assert model.layers[0].mask is None
    torch.testing.assert_close(model.state_dict(), state, rtol=0, atol=0)


@pytest.mark.parametrize("preset", ["fast", "faster"])
def test_before_a_norm_a_node_stays_and_is_not_heard(preset):
    torch.manual_seed(0)
    model = KAN([3, 5, 2], layer=getattr(KANLinear, preset), dtype=torch.float64)
    x = rows(60, 3)
    with torch.no_grad():
        model.layers[1].weight[:, 2] *= 1e-5
        if model.layers[1].base_weight is not None:
            model.layers[1].base_weight[:, 2] *= 1e-5
    before = model(x)
    pruned = model.prune(x, edge_threshold=0.0)
    assert pruned.nodes == [[2]]
    assert model.sizes == [3, 5, 2]
    assert not model.layers[1].mask[:, 2].any()
    torch.testing.assert_close(model(x), before, rtol=0, atol=1e-3)


def test_polynomials_get_smaller():
    torch.manual_seed(0)
    model = KAN([3, 5, 2], layer=KANLinear.chebyshev, dtype=torch.float64)
    with torch.no_grad():
        model.layers[1].weight[:, [0, 4]] = 0
    x = rows(60, 3)
    before = model(x)
    assert model.prune(x, edge_threshold=0.0).nodes == [[0, 4]]
    assert model.sizes == [3, 3, 2]
    torch.testing.assert_close(model(x), before)


def test_a_layer_that_would_be_emptied_keeps_its_best():
    model, x = network([3, 4, 2]), rows(60, 3)
    best = int(model.node_scores(x)[1].argmax())
    with pytest.warns(UserWarning, match=rf"emptied layer 0: all of its 4 nodes .* the best, {best} with"):
        pruned = model.prune(x, node_threshold=100.0, edge_threshold=0.0)
    assert pruned.spared == [0]
    assert pruned.nodes == [[n for n in range(4) if n != best]]
    assert model.sizes == [3, 1, 2]
    with pytest.warns(UserWarning, match="edges scored 100") as caught:
        assert model.prune(x, node_threshold=0.0, edge_threshold=100.0).spared == [0, 1]
    assert len(caught) == 2
    assert [int(layer.mask.sum()) for layer in model.layers] == [1, 1]


def test_a_single_layer_has_edges_to_prune():
    torch.manual_seed(0)
    layer, x = KANLinear(3, 2), rows(30, 3).float()
    x[:, 1] = 0.5
    pruned = layer.prune(x)
    assert pruned.nodes == []
    assert pruned.edges[0][:, 1].all()


def test_a_pruned_network_goes_on_learning():
    model, x = network([3, 5, 1]), rows(60, 3)
    with torch.no_grad():
        model.layers[1].edge_scale[:, 1] = model.layers[1].base_weight[:, 1] = 0
    model.prune(x, edge_threshold=0.05)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    target = x.prod(-1, keepdim=True)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = (model(x) - target).square().mean() + 1e-3 * model.sample_regularization(x)
        loss.backward()
        losses.append(float(loss.detach()))
        optimizer.step()
    assert losses[-1] < losses[0]
    model.refine(10, x)
    assert model(x).isfinite().all()


REFUSED = {
    "model.prune(x, node_threshold=-1.0)": ["ValueError", "node_threshold", "at least 0", "-1.0"],
    "model.prune(x, edge_threshold=-1.0)": ["ValueError", "edge_threshold", "at least 0", "-1.0"],
    "model.prune(x[:1])": ["ValueError", "2 rows or more", "got 1"],
    "broken.prune(x)": ["ValueError", "NaN in the weights"],
}
PREPARATION = """
from zoo.layers.kan import KAN
model, broken, x = KAN([3, 4, 1]), KAN([3, 4, 1]), torch.rand(5, 3)
nn.init.constant_(broken.layers[0].weight, float("nan"))
"""


@pytest.fixture(scope="module")
def messages():
    return answers(REFUSED, PREPARATION)


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_what_is_allowed(case, messages):
    assert all(part in messages[case] for part in REFUSED[case]), messages[case]
