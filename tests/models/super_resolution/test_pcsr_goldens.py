"""PCSR gives what the authors' code gives: training, losses, gradients, class maps, images."""

import pytest
import torch
import torch.nn.functional as F

from tests.models.super_resolution.golden import golden, part_of
from zoo.layers.pixel_adaptive import make_coords, pcsr_loss
from zoo.layers.pixel_adaptive.loss import average_loss
from zoo.models.super_resolution import reference
from zoo.models.super_resolution.pcsr import PCSR

NAMES = ["pcsr_fsrcnn_x4", "pcsr_carn_x4", "pcsr_srresnet_x3"]
DTYPES = [torch.float32, torch.float64]
DECISIONS = [{"k": 0}, {"k": 0.5}, {"k": -1}, {"k": 2}, {"policy": "adm", "adm_scope": "batch"}]


def _model(name, dtype=torch.float32):
    meta, tensors = golden(name)
    k = meta["kwargs"]
    hidden, encoder = k["hidden"], k["encoder"]
    model = PCSR(
        {"name": encoder["name"], **encoder["args"]},
        [hidden["light"], hidden["heavy"]],
        hidden["classifier"],
        scale=k["scale"],
    )
    missing = model.load_state_dict(part_of(tensors, "state."), strict=False)
    assert not missing.unexpected_keys
    assert all(key.endswith("num_batches_tracked") for key in missing.missing_keys)
    return meta, tensors, model.to(dtype).eval()


def _places(meta, tensors):
    """The authors' queries of training."""
    H, W = meta["kwargs"]["hr_size"]
    coord = make_coords(H, W)[tensors["in.train_index"]]
    return coord, torch.tensor([2 / H, 2 / W]).expand_as(coord)


def _word(decision):
    return "adm" if decision.get("policy") == "adm" else f"k{decision['k']:g}"


@pytest.mark.parametrize("name", NAMES)
def test_costs_are_the_authors(name):
    meta, _, model = _model(name)
    assert model.costs() == pytest.approx(meta["cost"], abs=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_a_step_of_training(name, dtype):
    meta, tensors, model = _model(name, dtype)
    close = {**meta["tolerance"], "check_dtype": False}
    model.phase(1).train()
    pred, prob = model.train_queries(tensors["in.lr"].to(dtype), *_places(meta, tensors))
    torch.testing.assert_close(pred, tensors["out.train_pred"], **close)
    torch.testing.assert_close(prob, tensors["out.train_prob"], **close)
    weights = {"w_rgb": meta["loss_weights"]["rgb"], "w_avg": meta["loss_weights"]["avg"]}
    target = tensors["in.train_hr"].to(dtype)
    loss = pcsr_loss(pred, prob, target, **weights)
    torch.testing.assert_close(loss, model.query_loss((pred, prob), target))
    torch.testing.assert_close(loss[None], tensors["out.loss"], **close)
    torch.testing.assert_close((pred - target).abs().mean()[None], tensors["out.loss_rgb"], **close)
    torch.testing.assert_close(average_loss(prob)[None], tensors["out.loss_avg"], **close)
    loss.backward()
    wanted = part_of(tensors, "grad.")
    assert {n for n, p in model.named_parameters() if p.grad is not None} == set(wanted)
    for key, gradient in wanted.items():
        got = model.get_parameter(key).grad
        torch.testing.assert_close(got, gradient, **{**close, "atol": close["atol"] * float(gradient.abs().max())})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("decision", DECISIONS, ids=_word)
@pytest.mark.parametrize("refine", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_images_and_class_maps(name, refine, decision, dtype):
    meta, tensors, model = _model(name, dtype)
    with torch.no_grad():
        image, info = model(tensors["in.lr"].to(dtype), refine=refine, return_info=True, **decision)
    word = _word(decision)
    assert torch.equal(info.class_map.flatten(1), tensors[f"out.flag_{word}"])
    wanted = tensors[f"out.pred_{word}_{'refined' if refine else 'raw'}"]
    torch.testing.assert_close(image.flatten(2).mT, wanted, check_dtype=False, **meta["tolerance"])


@pytest.mark.parametrize("decision", DECISIONS, ids=_word)
@pytest.mark.parametrize("chunk", [300_000, 100])
@pytest.mark.parametrize("name", NAMES)
def test_the_reference_path(name, chunk, decision):
    meta, tensors, model = _model(name)
    how = {"adm": True} if "policy" in decision else decision
    for refine in (False, True):
        with torch.no_grad():
            image, classes = reference.enlarge(
                model, tensors["in.lr"], meta["kwargs"]["scale"], refine=refine, pixel_batch_size=chunk, **how
            )
        word = _word(decision)
        assert torch.equal(classes.flatten(1), tensors[f"out.flag_{word}"])
        wanted = tensors[f"out.pred_{word}_{'refined' if refine else 'raw'}"]
        torch.testing.assert_close(image.flatten(2).mT, wanted, **meta["tolerance"])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_one_class_alone(name, dtype):
    meta, tensors, model = _model(name, dtype)
    x = tensors["in.lr"].to(dtype)
    close = {**meta["tolerance"], "check_dtype": False}
    with torch.no_grad():
        base = F.interpolate(x, tuple(meta["kwargs"]["hr_size"]), mode="bilinear")  # not in the authors' numbers
        for policy in ("light", "heavy"):
            got = (model(x, policy=policy) - base).flatten(2).mT
            torch.testing.assert_close(got, tensors[f"out.pred_{policy}"], **close)
        torch.testing.assert_close(model(x, k=-40, refine=False), model(x, policy="heavy"))
        torch.testing.assert_close(model(x, k=40, refine=False), model(x, policy="light"))


@pytest.mark.parametrize("name", NAMES)
def test_features_and_probabilities(name):
    meta, tensors, model = _model(name)
    with torch.no_grad():
        features = model.encoder(tensors["in.lr"])
        chances = model.scores(features, tuple(meta["kwargs"]["hr_size"])).softmax(1)
    torch.testing.assert_close(features, tensors["out.feat"], **meta["tolerance"])
    torch.testing.assert_close(chances.flatten(2).mT, tensors["out.prob"], **meta["tolerance"])
