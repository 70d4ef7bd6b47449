"""The networks and their classifier: names, order, blending, and the module behind features."""

import pytest
import torch

from zoo.layers import PCSRUpsampler, pcsr_loss
from zoo.layers.pixel_adaptive.coordinates import make_coords
from zoo.layers.pixel_adaptive.decide import argmax_classes
from zoo.layers.pixel_adaptive.heads import PixelHeads
from zoo.layers.pixel_adaptive.loss import average_loss

TWO, THREE = [(3,), (6, 6)], [(), (4,), (8, 8)]


def _heads(hidden, dtype=torch.float64, seed=0):
    torch.manual_seed(seed)
    heads = PixelHeads(4, 3, hidden, (5,), dtype=dtype)
    with torch.no_grad():
        for parameter in heads.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return heads


@pytest.mark.parametrize(
    ("hidden", "names"),
    [(TWO, {"light_sampler", "heavy_sampler", "classifier"}), (THREE, {"samplers", "classifier"})],
)
def test_two_networks_have_the_authors_names(hidden, names):
    heads = _heads(hidden)
    assert {key.partition(".")[0] for key in heads.state_dict()} == names
    assert [list(u.hidden) for u in heads.upsamplers] == [list(h) for h in hidden]


@pytest.mark.parametrize("hidden", [TWO, THREE])
def test_every_pixel_is_of_the_network_of_its_class(hidden):
    heads, size = _heads(hidden), (9, 11)
    features = torch.randn(2, 4, 4, 5, dtype=torch.float64)
    classes = torch.randint(0, len(hidden), (2, *size), dtype=torch.uint8)
    whole = torch.stack([u.dense(features, size) for u in heads.upsamplers])
    wanted = whole.gather(0, classes.long()[None, :, None].expand(1, -1, 3, -1, -1))[0]
    torch.testing.assert_close(heads.values(features, classes), wanted)


@pytest.mark.parametrize("hidden", [TWO, THREE])
def test_blending_at_all_pixels_is_blending_at_each(hidden):
    heads, (H, W) = _heads(hidden), (8, 10)
    features = torch.randn(2, 4, 4, 5, dtype=torch.float64)
    coord = make_coords(H, W).expand(2, -1, 2)
    values, prob = heads.blended_at(features, coord, torch.tensor([2 / H, 2 / W]).expand_as(coord))
    torch.testing.assert_close(values.mT.unflatten(2, (H, W)), heads.blended(features, (H, W)), rtol=0, atol=1e-6)
    torch.testing.assert_close(prob.sum(-1), torch.ones(2, H * W, dtype=torch.float64))


@pytest.mark.parametrize(("hidden", "message"), [([(4,)], "at least two networks"), ([(8,), (4,)], "light to heavy")])
def test_networks_that_leave_no_choice_are_refused(hidden, message):
    with pytest.raises(ValueError, match=message):
        PixelHeads(4, 3, hidden, ())


def test_networks_of_one_cost_are_refused_with_their_costs():
    with pytest.raises(
        ValueError, match=r"hidden layers \[4\] take 44 multiplications a pixel, the next \[4\] only 44"
    ):
        PixelHeads(4, 3, [(4,), (4,)], ())


@pytest.mark.parametrize(("other", "name"), [([(3,), (7, 6)], "heavy_sampler"), ([(2,), (6, 6)], "light_sampler")])
def test_a_checkpoint_of_other_networks_is_refused_with_both(other, name):
    state = _heads(other).state_dict()
    with pytest.raises(ValueError, match=rf"checkpoint has hidden layers .* in {name}, this network \["):
        _heads(TWO).load_state_dict(state)


def test_in_training_networks_are_blended_in_evaluation_one_is_chosen():
    torch.manual_seed(0)
    layer = PCSRUpsampler(4, 3, 2.5, hidden=TWO, classifier=(5,), smooth=False, dtype=torch.float64)
    features = torch.randn(1, 4, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(layer(features), layer.blended(features, (15, 15)))
    layer.eval()
    classes = argmax_classes(layer.scores(features, (15, 15)))
    torch.testing.assert_close(layer(features), layer.values(features, classes))


@pytest.mark.parametrize("classes", [2, 3])
def test_the_average_is_of_all_classes(classes):
    even = torch.full((7, classes), 1 / classes)
    assert average_loss(even) == pytest.approx(0, abs=1e-6)
    heavy = torch.zeros(2, 7, classes)
    heavy[..., -1] = 1
    assert average_loss(heavy) == pytest.approx(classes - 1)
    if classes == 2:
        chances = torch.rand(30, 1)
        chances = torch.cat([1 - chances, chances], -1)
        assert average_loss(chances) == pytest.approx(float((chances[:, 1].sum() - 15).abs() / 15), abs=1e-6)


def test_without_probabilities_the_loss_is_the_difference():
    a, b = torch.rand(2, 5, 3), torch.rand(2, 5, 3)
    assert pcsr_loss(a, None, b) == pytest.approx(float((a - b).abs().mean()))
    prob = torch.rand(2, 5, 2).softmax(-1)
    wanted = 2 * (a - b).abs().mean() + 5 * average_loss(prob)
    torch.testing.assert_close(pcsr_loss(a, prob, b, w_rgb=2, w_avg=5), wanted)
