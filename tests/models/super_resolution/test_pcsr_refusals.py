"""What cannot be asked of a network that enlarges images, and the words that say so."""

import warnings

import pytest
import torch

import zoo
from tests.models.super_resolution.test_pcsr import model_of
from zoo.layers.pixel_adaptive import make_coords
from zoo.models.super_resolution.carn import CARN
from zoo.models.super_resolution.pcsr import PCSR

IMAGE = torch.rand(1, 3, 6, 7, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model():
    return model_of()


@pytest.mark.parametrize(
    ("x", "kind", "message"),
    [
        (
            IMAGE[0],
            ValueError,
            r"expected images \(batch, 3, height, width\), got \(3, 6, 7\); add the batch with x\[N",
        ),
        (IMAGE[:, :1], ValueError, r"expected images \(batch, 3, height, width\), got \(1, 1, 6, 7\)"),
        (IMAGE[:, :, :0], ValueError, "at least one pixel, got 0x7"),
        ((IMAGE * 255).to(torch.uint8), TypeError, r"in \[0, 1\], got torch.uint8: x.float\(\) / 255; `upscale`"),
        (
            IMAGE.double(),
            TypeError,
            r"torch.float64 and the network is torch.float32: x.to\(torch.float32\), or model.to\(torch.float64\)",
        ),
        ([[0.5]], TypeError, "images must be a tensor, got list; `upscale` takes pictures"),
    ],
)
def test_what_is_no_batch_of_images(model, x, kind, message, unchecked):
    """In training by queries, too, and of a network of a fixed scale."""
    coord = make_coords(2, 2)[None]
    for call in (model, lambda x: model.train_queries(x, coord, coord), CARN(nf=8).eval()):
        with pytest.raises(kind, match=message):
            call(x)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"scale": 0}, "scale must be a finite number above 0, got 0"),
        ({"scale": -2}, "scale must be a finite number above 0, got -2"),
        ({"scale": float("nan")}, "scale must be a finite number above 0, got nan"),
        ({"scale": 4, "size": (24, 28)}, r"give scale or size, not both; got scale=4 and size=\(24, 28\)"),
        ({"scale": 0.5}, "image of 6x7 pixels can only become larger, not 3x4"),
        ({"size": (5, 28)}, "image of 6x7 pixels can only become larger, not 5x28"),
        ({"size": (24,)}, r"size must be \(height, width\), got \(24,\)"),
        ({"policy": "argmin"}, "unknown policy 'argmin'; did you mean 'argmax'.* argmax, adm, light, heavy, target"),
        ({"policy": "adm", "adm_scope": "images"}, "unknown adm_scope 'images'; did you mean 'image'"),
        ({"k": float("inf")}, "k must be a finite number, got inf; policy='light' and 'heavy'"),
        ({"k": 1, "policy": "adm"}, "k is of policy='argmax', not of 'adm'"),
        ({"policy": "target"}, "policy='target' needs target="),
        ({"target": 0.5}, "target is of policy='target', not of 'argmax'; got target=0.5"),
        (
            {"policy": "target", "target": 0.1},
            r"a budget \(target\) must be from 0\.\d{4}, all pixels light, .* got 0\.1",
        ),
        (
            {"policy": "target", "target": 1.1},
            r"a budget \(target\) must be from 0\.\d{4}, all pixels light, .* got 1\.1",
        ),
        ({"policy": "target", "target": float("nan")}, r"a budget \(target\) must be from"),
    ],
)
def test_what_cannot_be_asked_for(model, asked, message):
    with pytest.raises(ValueError, match=message):
        model(IMAGE, **asked)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"scale": "4"}, "scale must be a number, got '4'"),
        ({"scale": (4, 4)}, r"scale must be a number, got \(4, 4\)"),
        ({"scale": True}, "scale must be a number, got True"),
        ({"size": 24}, r"size must be \(height, width\), two whole numbers of pixels, got 24"),
        ({"size": (24.5, 28.0)}, r"two whole numbers of pixels, got \(24\.5, 28\.0\)"),
        ({"size": "24"}, "two whole numbers of pixels, got '24'"),
        ({"k": "1"}, "k must be a number, got '1'"),
        ({"policy": "target", "target": "0.6"}, "target must be a number, got '0.6'"),
    ],
)
def test_what_is_no_number(model, asked, message, unchecked):
    with pytest.raises(TypeError, match=message):
        model(IMAGE, **asked)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_images_that_are_not_finite(model, value):
    """Of a network of a fixed scale, and of pictures, too."""
    x = IMAGE.clone()
    x[0, 1, 2, 3] = value
    for call in (model, CARN(nf=8).eval(), lambda x: model.upscale(x[0])):
        words = r"(images|the picture) must be finite: NaN or infinity in 1 of 126 values, .*1, 2, 3\)"
        with pytest.raises(ValueError, match=words):
            call(x)


def test_no_scale_where_there_is_none():
    with pytest.raises(ValueError, match=r"give scale= or size=\(height, width\)"):
        model_of(scale=None)(IMAGE)
    with pytest.raises(ValueError, match="costs depend on the scale"):
        model_of(scale=None).costs()


@pytest.mark.parametrize(
    ("asked", "word"),
    [({"policy": "adm"}, "policy='adm'"), ({"k": 0.5}, "so k has"), ({"return_info": True}, "so return_info has")],
)
def test_nothing_is_decided_in_training(asked, word):
    with pytest.raises(ValueError, match=word + r".*call eval\(\) first|" + word):
        model_of().train()(IMAGE, **asked)


def test_images_that_are_not_in_the_range_are_remarked(model):
    for x, hint in ((IMAGE * 255, "x / 255"), (IMAGE * 4 - 2, "normalisation is inside")):
        with pytest.warns(UserWarning, match=rf"images must be in \[0, 1\], got values from .*{hint}"):
            model(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(IMAGE * 1.2 - 0.1)


def test_a_scale_that_was_not_learnt_is_remarked(model):
    with pytest.warns(UserWarning, match="learnt to enlarge by 4, not by 3 x 3"):
        model(IMAGE, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(IMAGE, size=(25, 27))  # sizes are rounded somewhere
        model_of(scale=None)(IMAGE, 3)


@pytest.mark.parametrize(
    ("coord", "cell"), [((1, 4, 3), (1, 4, 3)), ((2, 4, 2), (2, 4, 2)), ((1, 4, 2), (1, 5, 2)), ((4, 2), (4, 2))]
)
def test_what_are_no_queries(model, coord, cell):
    with pytest.raises(ValueError, match=r"must be \(1, queries, 2\).* got coord"):
        model.train_queries(IMAGE, torch.zeros(coord), torch.zeros(cell))


def test_a_phase_that_is_none(model):
    with pytest.raises(ValueError, match="phase must be 0, 1 or None, got 2"):
        model.phase(2)


def test_networks_from_heavy_to_light_and_other_numbers(unchecked):
    with pytest.raises(ValueError, match="from light to heavy"):
        PCSR("carn", [(74,) * 4, (20,) * 3])
    with pytest.raises(ValueError, match="mean and std must be 3 numbers"):
        PCSR("carn", mean=(0.5,))
    with pytest.raises(ValueError, match=r"mean and std must be 3 numbers.* got 0\.5 and \(1\.0, 1\.0, 1\.0\)"):
        PCSR("carn", mean=0.5)
    with pytest.raises(ValueError, match="at least two networks to choose between, got 1"):
        PCSR("carn", [(20, 20)])
    with pytest.raises(ValueError, match=r"scale must be at least 1, got 0\.9"):
        PCSR("carn", scale=0.9)


@pytest.mark.parametrize(
    ("upsamplers", "classifier", "message"),
    [
        (2, (), r"the networks are given by .* say; got 2"),
        ([20, 74], (), r"the networks are given by .* say; got \[20, 74\]"),
        ([[8.5], [20]], (), r"the networks are given by .* say; got \[\[8\.5\], \[20\]\]"),
        ([[8], [20]], 10, r"hidden layers are given by their widths, \[20, 20\] say, got 10"),
        ([[8], [20]], "10", r"hidden layers are given by their widths, \[20, 20\] say, got '10'"),
    ],
)
def test_what_are_no_widths(upsamplers, classifier, message, unchecked):
    with pytest.raises(TypeError, match=message):
        PCSR("fsrcnn", upsamplers, classifier)


def test_a_checkpoint_of_other_networks(model, tmp_path):
    """By torch's own loading and by the zoo's, with what was expected and found."""
    other = model_of(hidden=[(4,), (9, 9)])
    with pytest.raises(
        ValueError, match=r"hidden layers \[9, 9\] and 3 outputs in heavy_sampler, this network \[8, 8\]"
    ):
        model.load_state_dict(other.state_dict())
    zoo.save_pretrained(other, tmp_path / "other")
    with pytest.raises(zoo.errors.MismatchError, match=r"heavy_sampler.*9.*8"):
        zoo.load_weights(model, tmp_path / "other" / "model.safetensors")


def test_fractions_and_conventions(model):
    with pytest.raises(ValueError, match="unknown convention 'papre'; did you mean 'paper'"):
        model.flops((6, 7), 4, convention="papre")
    with pytest.raises(ValueError, match="2 numbers of at least 0 that add up to 1"):
        model.flops((6, 7), 4, fractions=(0.5, 0.6))
