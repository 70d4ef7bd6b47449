"""What must hold of an association whatever its parameters."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.layers.hopfield import Hopfield, HopfieldPooling, associate, hopfield_association

MAPS = [("softmax", {}), ("sparsemax", {}), ("entmax", {"alpha": 1.5}), ("normmax", {}), ("budget", {"k": 2})]
BARE = {
    **dict.fromkeys(("norm_stored", "norm_state", "norm_value"), False),
    **dict.fromkeys(("project_stored", "project_state", "project_value", "project_out"), False),
}


def noisy(module):
    """Parameters far enough from their start that everything matters."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    return module.eval()


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_one_update_is_attention():
    q, k, v = draw(2, 3, 4, 6), draw(2, 3, 7, 6, seed=1), draw(2, 3, 7, 5, seed=2)
    mask = torch.zeros(4, 7, dtype=torch.float64).masked_fill(draw(4, 7, seed=3) > 1, -math.inf)
    found = hopfield_association(q, k, v, torch.full((3,), 0.7, dtype=torch.float64), mask)
    wanted = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.7)
    torch.testing.assert_close(found.result, wanted, rtol=0, atol=1e-12)


def test_further_updates_are_attention_to_the_stored_patterns():
    q, k, v = draw(2, 3, 4, 6), draw(2, 3, 7, 6, seed=1), draw(2, 3, 7, 5, seed=2)
    found = hopfield_association(q, k, v, torch.full((3,), 0.7, dtype=torch.float64), num_updates=3)
    for _ in range(2):
        q = F.scaled_dot_product_attention(q, k, k, scale=0.7)
    wanted = F.scaled_dot_product_attention(q, k, v, scale=0.7)
    torch.testing.assert_close(found.result, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("association", "options"), MAPS)
@pytest.mark.parametrize("stop", ["association", "state"])
def test_masked_rows_and_their_order_change_nothing(association, options, stop):
    layer = noisy(
        Hopfield(
            6, num_heads=2, num_updates=3, stop=stop, association=association, beta=1.5, dtype=torch.float64, **options
        )
    )
    stored, state = draw(2, 5, 6), draw(2, 3, 6, seed=1)
    wanted = layer(stored, state)
    order = torch.tensor([3, 0, 4, 2, 1])
    torch.testing.assert_close(layer(stored[:, order], state), wanted)
    more = torch.cat([stored, 100 * draw(2, 4, 6, seed=2)], 1)
    mask = (torch.arange(9) >= 5).expand(2, -1)
    torch.testing.assert_close(layer(more, state, padding_mask=mask), wanted)
    torch.testing.assert_close(layer(more, state, association_mask=mask[:1].expand(3, -1)), wanted)


@pytest.mark.parametrize(
    "options", [{"tol": None}, {"stop": "state", "tol": 0.05}, {"stop": "state", "tol": 0.05, "association": "entmax"}]
)
def test_samples_are_independent(options):
    layer = noisy(Hopfield(6, num_heads=2, num_updates=6, beta=1.5, dtype=torch.float64, **options))
    stored, state = draw(4, 5, 6), draw(4, 3, 6, seed=1)
    alone = torch.cat([layer(stored[i : i + 1], state[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(layer(stored, state), alone, rtol=0, atol=1e-12)


def test_by_the_authors_stop_test_a_sample_depends_on_its_batch():
    layer = noisy(Hopfield(6, num_heads=2, num_updates=6, beta=1.5, tol=0.3, dtype=torch.float64))
    stored, state = draw(4, 5, 6), draw(4, 3, 6, seed=1)
    alone = torch.cat([layer(stored[i : i + 1], state[i : i + 1]) for i in range(4)])
    assert (layer(stored, state) - alone).abs().max() > 1e-6


def test_each_state_stops_alone():
    layer = noisy(Hopfield(6, num_updates=8, beta=2.0, tol=0.02, stop="state", dtype=torch.float64))
    stored, state = draw(1, 5, 6), draw(1, 6, 6, seed=1)
    together = layer.recall(stored, state)
    each = [layer.recall(stored, state[:, i : i + 1]) for i in range(6)]
    counts = {found.counts for found in each}
    assert len(counts) > 1
    assert together.counts == max(counts)
    torch.testing.assert_close(together.output, torch.cat([found.output for found in each], 1), rtol=0, atol=1e-12)


def alike(*options: dict) -> list[Hopfield]:
    """Layers with the same parameters and other options."""
    layers = [Hopfield(6, project_out=False, dtype=torch.float64, **each) for each in options]
    state = noisy(layers[0]).state_dict()
    for layer in layers[1:]:
        layer.load_state_dict(state)
    return layers


def test_a_beta_for_each_head_is_that_beta_in_that_head():
    betas = [0.2, 1.0, 4.0]
    layers = alike(*({"num_heads": 3, "beta": beta} for beta in (*betas, betas)))
    stored, state = draw(2, 5, 6), draw(2, 3, 6, seed=1)
    *single, every = [layer(stored, state).unflatten(-1, (3, 2)) for layer in layers]
    for head in range(3):
        torch.testing.assert_close(every[:, :, head], single[head][:, :, head], rtol=0, atol=1e-12)


def test_learned_beta_starts_as_given_and_learns():
    layer = Hopfield(6, num_heads=2, beta=[0.5, 2.0], learn_beta=True)
    torch.testing.assert_close(layer.beta, torch.tensor([0.5, 2.0]))
    assert "inverse_temperature.log_beta" in layer.state_dict()
    noisy(layer)(draw(2, 5, 6).float()).square().sum().backward()
    assert (layer.inverse_temperature.log_beta.grad != 0).all()


def test_small_and_large_beta():
    stored, state = draw(1, 5, 6), draw(1, 3, 6, seed=1)
    mean = Hopfield(beta=1e-9, **BARE)(stored, state)
    torch.testing.assert_close(mean, stored.mean(1, keepdim=True).expand_as(mean), rtol=0, atol=1e-7)
    nearest = stored[0, (state[0] @ stored[0].T).argmax(-1)]
    torch.testing.assert_close(Hopfield(beta=1e4, **BARE)(stored, state)[0], nearest)


@pytest.mark.parametrize(("association", "margin"), [("sparsemax", 1.0), ("entmax", 2.0), ("normmax", 1.0)])
def test_sparse_maps_recall_exactly_when_the_margin_holds(association, margin):
    stored = F.normalize(draw(20, 32), dim=-1)
    products = stored @ stored.T
    separation = (products.diagonal() - (products - 3 * torch.eye(20)).amax(-1)).min()
    layer = Hopfield(beta=1.01 * margin / float(separation - 2 * 0.02), association=association, **BARE)
    state = stored + 0.02 * F.normalize(draw(20, 32, seed=1), dim=-1)
    found = layer.recall(stored.unsqueeze(0), state.unsqueeze(0))
    torch.testing.assert_close(found.output[0], stored, rtol=0, atol=1e-6)
    assert torch.equal(found.association[0, 0] > 0, torch.eye(20, dtype=torch.bool))


def test_one_step_error_is_below_its_bound():
    beta, eps = 4.0, 0.05
    stored = 3 * F.normalize(draw(50, 20), dim=-1)
    products = stored @ stored.T
    separation = products.diagonal() - (products - 1e3 * torch.eye(50)).amax(-1)
    which = torch.arange(1000) % 50
    state = stored[which] + eps * F.normalize(draw(1000, 20, seed=1), dim=-1)
    found = Hopfield(beta=beta, **BARE)(stored.unsqueeze(0), state.unsqueeze(0))[0]
    bound = 2 * 3 * 49 * torch.exp(-beta * (separation[which] - 2 * 3 * eps))
    assert ((found - stored[which]).norm(dim=-1) <= bound + 1e-12).all()


def energy(state: Tensor, stored: Tensor, beta: float, association: str) -> Tensor:
    """Of any map p: -(1 / beta) max_p (<p, z> - its regulariser) + |state|^2 / 2, up to constants."""
    scores = beta * state @ stored.T
    p = associate(scores, association)
    alpha = {"softmax": 1.0, "entmax": 1.5, "sparsemax": 2.0}[association]
    if alpha == 1:
        regulariser = -torch.special.entr(p).sum(-1)
    else:
        regulariser = (p.pow(alpha) - p).sum(-1) / (alpha * (alpha - 1))
    return -((p * scores).sum(-1) - regulariser) / beta + state.square().sum(-1) / 2


@pytest.mark.parametrize("association", ["softmax", "entmax", "sparsemax"])
@pytest.mark.parametrize("beta", [0.3, 1.0, 5.0])
def test_energy_never_rises(association, beta):
    stored, state = draw(12, 6), 2 * draw(40, 6, seed=1)
    layer = Hopfield(beta=beta, association=association, **BARE)
    before = energy(state, stored, beta, association)
    for _ in range(20):
        state = layer(stored.unsqueeze(0), state.unsqueeze(0))[0]
        after = energy(state, stored, beta, association)
        assert (after <= before + 1e-12 * before.abs()).all()
        before = after


def test_heads_of_static_inputs_do_not_mix_samples():
    stored, state = draw(3, 5, 6), draw(3, 4, 6, seed=1)
    one = Hopfield(beta=0.7, num_updates=2, **BARE)(stored, state)
    torch.testing.assert_close(
        Hopfield(beta=0.7, num_updates=2, num_heads=4, **BARE)(stored, state), one.repeat(1, 1, 4)
    )


@pytest.mark.parametrize("association", ["softmax", "entmax", "sparsemax", "topk"])
def test_nothing_to_associate_with_gives_zero_and_finite_gradients(association):
    options = {"k": 2} if association == "topk" else {}
    layer = noisy(Hopfield(6, num_heads=2, num_updates=2, tol=None, association=association, **options))
    stored = draw(3, 5, 6).float().requires_grad_()
    mask = torch.tensor([[False] * 5, [True] * 5, [False, False, False, True, True]])
    output = layer(stored, padding_mask=mask)
    assert not output[1].any()
    assert output[0].all()
    output.square().sum().backward()
    assert not stored.grad[1].any()
    assert stored.grad.isfinite().all()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in layer.parameters())
    torch.testing.assert_close(layer(stored[:1]), output[:1])
    with pytest.raises(ValueError, match="no stored pattern to associate with"):
        Hopfield(6, empty="raise")(stored, padding_mask=mask)


def test_an_empty_bag_pools_to_zero():
    pool = noisy(HopfieldPooling(6, quantity=2))
    x, mask = draw(2, 4, 6).float(), torch.tensor([[False] * 4, [True] * 4])
    pooled = pool(x, mask)
    assert not pooled[1].any()
    torch.testing.assert_close(pooled[:1], pool(x[:1]))


def test_the_zero_pattern_takes_part_and_gives_nothing():
    layer = noisy(Hopfield(6, num_heads=2, zero_pattern=True, num_updates=2, dtype=torch.float64))
    plain = noisy(Hopfield(6, num_heads=2, num_updates=2, dtype=torch.float64))
    plain.load_state_dict(layer.state_dict())
    q, k, v = plain.project(*[draw(2, 5, 6)] * 3)
    k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))
    found = layer.recall(draw(2, 5, 6))
    wanted = hopfield_association(q, k, v, layer.beta, num_updates=2, tol=1e-4).result
    torch.testing.assert_close(found.output, layer.out_proj(wanted.transpose(1, 2).flatten(2)))
    every = layer(draw(2, 5, 6), padding_mask=torch.ones(2, 5, dtype=torch.bool))
    torch.testing.assert_close(every, layer.out_proj.bias.expand_as(every))
    assert layer(draw(2, 0, 6), draw(2, 3, 6)).shape == (2, 3, 6)


def test_the_bias_pattern_is_one_more_stored_pattern():
    layer = noisy(Hopfield(6, num_heads=2, bias_pattern=True, num_updates=2, dtype=torch.float64))
    x = draw(2, 5, 6)
    found = layer.recall(x)
    assert found.association.shape == (2, 2, 5, 6)
    assert (found.association[..., -1] > 0).all()
    found.output.square().sum().backward()
    assert layer.bias_stored.grad.any()
    assert layer.bias_value.grad.any()
    torch.testing.assert_close(layer.projected_values(x)[1, :, -1], layer.bias_value)


def test_new_states_of_unit_length():
    q, k, v = draw(1, 1, 3, 6), draw(1, 1, 5, 6, seed=1), draw(1, 1, 5, 2, seed=2)
    layer = Hopfield(6, num_updates=2, tol=None, post="l2", beta=1.7, norm_value=False, project_value=False,
                     value_dim=2, project_out=False, project_stored=False, project_state=False,
                     norm_stored=False, norm_state=False)  # fmt: skip
    states = F.normalize(torch.softmax(1.7 * q @ k.mT, -1) @ k, dim=-1)
    wanted = torch.softmax(1.7 * states @ k.mT, -1) @ v
    layer.double()
    torch.testing.assert_close(layer(k[0], q[0], v[0]), wanted[0], rtol=0, atol=1e-7)
    other = Hopfield(6, num_updates=3, tol=None, post="layer_norm").double()
    torch.testing.assert_close(other.post(q), F.layer_norm(q, (6,)))


@pytest.mark.parametrize("reduce", ["mean", "concat"])
def test_pooling_with_the_length_first(reduce):
    options = {"num_heads": 2, "quantity": 3, "reduce": reduce}
    first, last = HopfieldPooling(6, **options), HopfieldPooling(6, batch_first=False, **options)
    last.load_state_dict(noisy(first).state_dict())
    x, mask = draw(4, 5, 6).float(), torch.arange(5).expand(4, -1) >= torch.tensor([[5], [3], [1], [4]])
    torch.testing.assert_close(last.eval()(x.transpose(0, 1), mask), first(x, mask))
    torch.testing.assert_close(last.association(x.transpose(0, 1), mask), first.association(x, mask))


def test_too_few_updates_to_converge_are_told():
    """Two opposite patterns at the temperature where their mean becomes stable: each update is a tanh."""
    stored, state = torch.tensor([[[1.0], [-1.0]]], dtype=torch.float64), torch.ones(1, 1, 1, dtype=torch.float64)
    with pytest.warns(UserWarning, match="still changed after 128 updates"):
        found = Hopfield(beta=1.0, num_updates=None, tol=1e-6, **BARE).recall(stored, state)
    assert found.counts == (128,)
    for _ in range(128):
        state = state.tanh()
    torch.testing.assert_close(found.output, state)
    assert Hopfield(beta=1.0, num_updates=None, tol=1e-2, **BARE).recall(stored, state).counts == (2,)


def test_fixed_updates_that_differ_by_head():
    stored, state = draw(2, 5, 6), draw(2, 3, 6, seed=1)
    layers = alike(*({"num_heads": 2, "num_updates": n, "tol": None, "beta": 2.0} for n in (1, 3, [1, 3])))
    one, three, both = [layer(stored, state) for layer in layers]
    torch.testing.assert_close(both, torch.cat([one[..., :3], three[..., 3:]], -1))
    assert (one - three)[..., :3].abs().max() > 1e-3


@pytest.mark.parametrize(
    "options",
    [
        {"num_updates": 3, "tol": None},
        {"num_updates": 3, "tol": 1e-3},
        {"num_updates": 3, "tol": 1e-3, "stop": "state", "post": "layer_norm"},
        {"association": "entmax", "learn_alpha": True, "learn_beta": True, "num_updates": 2, "tol": None},
        {"association": "entmax", "alpha": [1.0, 1.6], "num_updates": 2, "tol": None},
        {"association": "sparsemax", "connect_values": True, "zero_pattern": True},
        {"bias_pattern": True, "norm_association": {"affine": True}, "value_dim": 2},
    ],
)
def test_gradients_by_finite_differences(options):
    layer = noisy(Hopfield(6, num_heads=2, dtype=torch.float64, **options))
    names = dict(layer.named_parameters())
    mask = torch.tensor([[False, False, True, False], [True] * 4])

    def run(stored: Tensor, state: Tensor, *values: Tensor) -> Tensor:
        given = dict(zip(names, values, strict=True))
        return torch.func.functional_call(layer, given, (stored, state), {"padding_mask": mask})

    leaves = [draw(2, 4, 6), draw(2, 3, 6, seed=1), *(p.detach().clone() for p in names.values())]
    assert torch.autograd.gradcheck(run, [leaf.requires_grad_() for leaf in leaves], fast_mode=True)
    assert torch.autograd.gradgradcheck(run, leaves, fast_mode=True)
