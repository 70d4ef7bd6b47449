"""PCSR beyond the authors' cases: any backbone, any number of classes, any scale; phases, budgets, batches."""

import copy
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import zoo
from zoo.layers.pixel_adaptive import make_coords
from zoo.models.super_resolution.backbone import features_of
from zoo.models.super_resolution.pcsr import PCSR

BACKBONES = {
    "fsrcnn": {"name": "fsrcnn", "d": 8, "s": 4, "m": 2},
    "carn": {"name": "carn", "nf": 8},
    "srresnet": {"name": "srresnet", "nf": 8, "nb": 2},
}
TWO, THREE = [(4,), (8, 8)], [(4,), (8, 8), (12, 12, 12)]
POLICIES = [{"k": 0.0}, {"k": 0.2}, {"policy": "adm"}, {"policy": "target", "target": 0.9}]


def _images(*shape, seed=0, dtype=torch.float32):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def model_of(backbone="carn", hidden=TWO, classifier=(6,), *, dtype=torch.float32, seed=0, **options):
    """A small model whose classes are mixed."""
    torch.manual_seed(seed)
    model = PCSR(BACKBONES[backbone] if isinstance(backbone, str) else backbone, hidden, classifier, **options).to(
        dtype
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        scores = model.eval().scores(features_of(model.encoder, _images(2, 3, 8, 8, dtype=dtype)), (32, 32))
        model.classifier.linears[-1].bias -= scores.mean((0, 2, 3))
    return model


# --- classes, scales, sizes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", POLICIES, ids=str)
@pytest.mark.parametrize("hidden", [TWO, THREE], ids=["two", "three"])
@torch.no_grad()
def test_every_pixel_is_of_its_network_and_the_rest_is_told(hidden, how):
    model = model_of(hidden=hidden)
    x = _images(2, 3, 9, 11)
    y, info = model(x, refine=False, return_info=True, **how)
    assert info.class_map.shape == (2, 36, 44)
    assert info.class_map.dtype == torch.uint8
    assert len(info.class_map.unique()) == len(hidden)
    features = model.encoder(x)
    each = torch.stack([network.dense(features, (36, 44)) for network in model.upsamplers])
    chosen = each.gather(0, info.class_map.long()[None, :, None].expand(1, -1, 3, -1, -1))[0]
    torch.testing.assert_close(y, chosen + F.interpolate(x, (36, 44), mode="bilinear"))
    counts = torch.stack([(info.class_map == j).flatten(1).sum(1) for j in range(len(hidden))], 1)
    torch.testing.assert_close(info.fractions, counts.double() / (36 * 44))
    torch.testing.assert_close(info.hard, (info.class_map > 0).flatten(1).double().mean(1))
    for convention, flops in info.flops.items():
        wanted = [model.flops((9, 11), 4, row, convention) for row in info.fractions.tolist()]
        assert flops == pytest.approx(wanted)


@pytest.mark.parametrize("hidden", [TWO, THREE], ids=["two", "three"])
@torch.no_grad()
def test_one_class_costs_no_classifier(hidden):
    model, x = model_of(hidden=hidden), _images(1, 3, 8, 8)
    for policy, place in (("light", 0), ("heavy", len(hidden) - 1)):
        _, info = model(x, policy=policy, return_info=True)
        assert (info.class_map == place).all()
        assert info.fractions[0, place] == 1
        parts = model.parts((8, 8), (32, 32))
        assert info.flops["paper"] == [parts.backbone + parts.upsamplers[place]]


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("scale", [2, 3, 4, 1.5, 2.5, 3.7])
@torch.no_grad()
def test_any_scale(backbone, scale):
    model = model_of(backbone, scale=scale)
    x = _images(1, 3, 7, 10)
    y = model(x)
    assert y.shape == (1, 3, round(7 * scale), round(10 * scale))
    torch.testing.assert_close(y, model(x, scale))
    torch.testing.assert_close(y, model(x, size=y.shape[2:]))


@torch.no_grad()
def test_a_size_that_is_stretched():
    model = model_of(scale=None)
    assert model(_images(1, 3, 8, 8), size=(17, 30), k=0.5).shape == (1, 3, 17, 30)


@pytest.mark.parametrize("how", POLICIES, ids=str)
@pytest.mark.parametrize("backbone", BACKBONES)
@torch.no_grad()
def test_an_image_is_what_it_is_alone(backbone, how):
    model = model_of(backbone, dtype=torch.float64)
    x = _images(3, 3, 9, 8, dtype=torch.float64) ** torch.tensor([1.0, 2.0, 5.0])[:, None, None, None]
    together, info = model(x, return_info=True, **how)
    for i in range(3):
        alone, own = model(x[i : i + 1], return_info=True, **how)
        torch.testing.assert_close(together[i], alone[0])
        assert torch.equal(info.class_map[i], own.class_map[0])


@torch.no_grad()
def test_no_images():
    for how in POLICIES:
        assert model_of()(torch.zeros(0, 3, 6, 7), **how).shape == (0, 3, 24, 28)


@pytest.mark.parametrize("hidden", [TWO, THREE], ids=["two", "three"])
@torch.no_grad()
def test_a_budget_is_met(hidden):
    """Within the step of one pixel, and more is spent with a larger one."""
    model, x = model_of(hidden=hidden), _images(1, 3, 12, 13)
    parts = model.parts((12, 13), (48, 52))
    least = (parts.whole([1.0] + [0.0] * (len(hidden) - 1))) / parts.whole()
    pixel = (parts.upsamplers[-1] - parts.upsamplers[0]) / (48 * 52)
    spent = []
    for target in (least + 1e-9, *(least + part * (1 - least) for part in (0.1, 0.5, 0.8)), 1.0):
        _, info = model(x, policy="target", target=target, return_info=True)
        (flops,) = info.flops["paper"]
        assert target * parts.whole() - pixel <= flops <= target * parts.whole() * (1 + 1e-9)
        spent.append(flops)
    assert spent == sorted(spent)


@torch.no_grad()
def test_larger_k_costs_less():
    model, x = model_of(hidden=THREE), _images(1, 3, 12, 13)
    spent = [model(x, k=k, return_info=True)[1].flops["paper"][0] for k in (-2, -1, 0, 0.5, 1, 2)]
    assert spent == sorted(spent, reverse=True)
    assert spent[0] > spent[-1]


@pytest.mark.parametrize("how", POLICIES, ids=str)
@torch.no_grad()
def test_mean_and_deviation_are_inside(how):
    """The network on the normalised image, brought back."""
    mean, std = (0.4, 0.5, 0.6), (0.9, 0.8, 1.1)
    model = model_of()
    inside = PCSR(BACKBONES["carn"], TWO, (6,), mean=mean, std=std).eval()
    inside.load_state_dict(model.state_dict())
    x = _images(2, 3, 8, 9)
    m, s = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]
    torch.testing.assert_close(inside(x, **how), model((x - m) / s, **how) * s + m)
    coord = make_coords(32, 36)[None, :50].expand(2, -1, 2)
    cell = torch.tensor([2 / 32, 2 / 36]).expand_as(coord)
    pred, prob = inside.train_queries(x, coord, cell)
    wanted, same = model.train_queries((x - m) / s, coord, cell)
    torch.testing.assert_close(pred, wanted * s.flatten() + m.flatten())
    torch.testing.assert_close(prob, same)


# --- training -------------------------------------------------------------------------------------------------------


def test_in_training_the_image_is_that_of_all_queries():
    model = model_of(hidden=THREE, dtype=torch.float64).train()
    model.encoder.eval()
    x = _images(2, 3, 5, 6, dtype=torch.float64)
    coord = make_coords(20, 24).expand(2, -1, 2)
    pred, prob = model.train_queries(x, coord, torch.tensor([2 / 20, 2 / 24]).expand_as(coord))
    assert prob.shape == (2, 480, 3)
    torch.testing.assert_close(pred.mT.unflatten(2, (20, 24)), model(x), rtol=0, atol=1e-6)
    model(x).square().mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("hidden", [TWO, THREE], ids=["two", "three"])
def test_phases_train_their_own_parts(hidden):
    model = model_of(hidden=hidden)
    x = _images(2, 3, 5, 6)
    coord = make_coords(20, 24)[None, ::7].expand(2, -1, 2)
    cell = torch.tensor([2 / 20, 2 / 24]).expand_as(coord)
    heaviest = model._names[-1]
    for number in (0, 1, None):
        model.phase(number).train()
        model.zero_grad()
        pred, prob = model.train_queries(x, coord, cell)
        model.query_loss((pred, prob), torch.rand_like(pred)).backward()
        learnt = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
        ours = {n for n, _ in model.named_parameters() if n.startswith(("encoder.", f"{heaviest}."))}
        everything = {n for n, _ in model.named_parameters()}
        assert learnt == {0: ours, 1: everything - ours, None: everything}[number]
        assert (prob is None) == (number == 0)
        assert {n for n, p in model.named_parameters() if p.requires_grad} == learnt


def test_what_is_frozen_stays_in_evaluation():
    model = model_of()
    model.phase(1).train()
    assert model.training
    assert model.classifier.training
    assert not any(part.training for part in (*model.encoder.modules(), *model.heavy_sampler.modules()))
    before = copy.deepcopy(model.encoder.state_dict())
    model(_images(2, 3, 6, 6))
    assert all(torch.equal(value, before[key]) for key, value in model.encoder.state_dict().items())
    model.eval().train()
    assert not model.encoder.training
    model.phase(0).train()
    assert model.encoder.training
    model(_images(2, 3, 6, 6), policy="heavy")
    assert not torch.equal(model.encoder.c1[1].running_mean, before["c1.1.running_mean"])
    assert model.phase(None) is model


# --- backbones ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "backbone",
    [
        {"name": "convnext_atto", "patch_size": 1},
        {
            "name": "vit_tiny_patch16_224",
            "patch_size": 1,
            "img_size": 8,
            "dynamic_img_size": True,
            "depth": 2,
            "out_indices": [-1],
        },
    ],
    ids=lambda b: b["name"],
)
@torch.no_grad()
def test_a_backbone_of_timms(backbone):
    model = model_of(backbone, classifier=())
    assert model.upsamplers[0].in_chans == model.encoder.feature_info.channels()[-1]
    y, info = model(_images(2, 3, 8, 8), k=0.5, return_info=True)
    assert y.shape == (2, 3, 32, 32)
    assert info.flops["true"][0] > 0


class _Own(nn.Module):
    def __init__(self, stride=1, stated=False):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, stride=stride, padding=1)
        if stated:
            self.out_channels = 5

    def forward(self, x):
        return self.conv(x).relu()


class _Mapping(nn.Module):
    def forward(self, x):
        return {"features": x}


@pytest.mark.parametrize("stated", [False, True])
@torch.no_grad()
def test_a_backbone_of_ones_own(stated):
    model = model_of(_Own(stated=stated))
    x = _images(1, 3, 6, 7)
    y = model(x)
    assert y.shape == (1, 3, 24, 28)
    parts = model.parts((6, 7), (24, 28))
    assert parts.backbone == 2 * 3 * 5 * 9 * 42
    assert model.classifier.in_chans == 5
    assert PCSR(_Own(stated=stated).double()).eval()(x.double()).dtype == torch.float64


def test_a_backbone_that_shrinks_is_refused_with_both_sizes():
    with pytest.raises(ValueError, match="for 32x32 pixels it gives features of 16x16"):
        PCSR(_Own(stride=2))
    with pytest.raises(ValueError, match="for 6x8 pixels it gives features of 3x4"):
        PCSR(_Own(stride=2, stated=True))(_images(1, 3, 6, 8))
    with pytest.raises(ValueError, match="keep the size of the image: its features are 4 times smaller"):
        PCSR("convnext_atto")
    wrong = _Own(stated=True)
    wrong.out_channels = 7
    with pytest.raises(ValueError, match="says out_channels=7 and gives features of 5 channels"):
        PCSR(wrong)(_images(1, 3, 6, 8))
    with pytest.raises(ValueError, match=r"must give features \(batch, channels, height, width\), got dict"):
        PCSR(_Mapping())
    with pytest.raises(ValueError, match="gives 2 maps; choose one"):
        PCSR({"name": "convnext_atto", "patch_size": 1, "out_indices": (0, 1)})


def test_what_is_no_backbone_is_refused(unchecked):
    with pytest.raises(ValueError, match="no backbone 'cran'; did you mean 'carn'"):
        PCSR("cran")
    with pytest.raises(ValueError, match="a mapping with a 'name', or a module"):
        PCSR({"nf": 8})
    with pytest.raises(TypeError, match="carn takes no argument 'n_f'"):
        PCSR({"name": "carn", "n_f": 8})
    with pytest.raises(TypeError, match=r"or a module; got .*_Own'>; make one of the class, _Own\(…\)"):
        PCSR(_Own)
    with pytest.raises(TypeError, match=r"by name a backbone is a name .* got a _Own; zoo\.PCSR\(backbone, .* takes"):
        zoo.create_model("pcsr", backbone=_Own())


# --- numbers and systems --------------------------------------------------------------------------------------------


@torch.no_grad()
def test_bfloat16_is_near():
    """PSNR against the same truth changes by less than .05 dB."""
    torch.manual_seed(0)
    model, x = PCSR(BACKBONES["carn"], THREE, (6,)).eval(), _images(1, 3, 16, 16)
    exact = model(x)
    truth = exact + 0.05 * torch.randn(exact.shape, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(x)
    found = [-10 * ((y.float() - truth) ** 2).mean().log10() for y in (exact, rough)]
    assert abs(found[0] - found[1]) < 0.05
    with torch.autocast("cpu", torch.bfloat16):
        model(x, policy="adm")
        model(x, policy="target", target=0.99)


@torch.no_grad()
def test_values_count_not_how_they_lie():
    model = model_of(dtype=torch.float64)
    x = _images(2, 3, 8, 10, dtype=torch.float64)
    wanted = model(x)
    for other in (x.contiguous(memory_format=torch.channels_last), x.mT.contiguous().mT):
        torch.testing.assert_close(model(other), wanted)


def test_copies_and_pickles(tmp_path):
    model, x = model_of(), _images(1, 3, 6, 6)
    with torch.no_grad():
        wanted = model(x, k=0.5)
        torch.testing.assert_close(copy.deepcopy(model)(x, k=0.5), wanted)
        torch.save(model, tmp_path / "model.pt")
        again = torch.load(tmp_path / "model.pt", weights_only=False)
        torch.testing.assert_close(again(x, k=0.5), wanted)


@pytest.mark.parametrize("scope", ["image", "batch"])
def test_classes_have_no_gradient_and_values_have_one(scope):
    """Without a warning of torch's, which would be an error here."""
    model, x = model_of(), _images(2, 3, 6, 7)
    y, info = model(x, policy="adm", adm_scope=scope, return_info=True)
    y.sum().backward()
    assert all(p.grad is not None for p in model.light_sampler.parameters())
    assert 0 < info.hard.mean() < 1


def test_a_scale_that_is_learnt_is_the_models_own(tmp_path):
    model = PCSR(BACKBONES["fsrcnn"], TWO, (), scale=None)
    with pytest.raises(ValueError, match="scale must be a finite number above 0"):
        model.learns(0)
    zoo.save_pretrained(model.learns(3), tmp_path / "saved")
    again = zoo.create_model(f"local-dir:{tmp_path / 'saved'}").eval()
    assert again.scale == 3
    assert again(_images(1, 3, 6, 7)).shape == (1, 3, 18, 21)
    assert again.flops((6, 7), 2) < again.flops((6, 7)) == model.flops((6, 7), 3)


def test_images_alone_after_inference_mode():
    """What is kept from inference serves training."""
    model, x = model_of(), _images(1, 3, 11, 13)
    with torch.inference_mode():
        model(x, k=0.5)
    model.train()(x).sum().backward()


_COMPILE = """
import torch, warnings
warnings.simplefilter("ignore")
from zoo.models.super_resolution.pcsr import PCSR
torch.manual_seed(0)
model = PCSR({"name": "srresnet", "nf": 8, "nb": 1}, [(4,), (8, 8), (9, 9)], (6,)).eval()
x, other = torch.rand(2, 3, 8, 9), torch.rand(1, 3, 13, 6)
with torch.no_grad():
    model.classifier.linears[-1].bias -= model.scores(model.encoder(x), (32, 36)).mean((0, 2, 3))
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, k=0.5), model(x, k=0.5))
    torch.testing.assert_close(torch.export.export(model, (x,), {"k": 0.5}).module()(x, k=0.5), model(x, k=0.5))
    sizes = {i: torch.export.Dim(name, min=2, max=64) for i, name in ((2, "height"), (3, "width"))}
    free = torch.export.export(model, (other, 4), dynamic_shapes={"x": sizes, "scale": None})
    torch.testing.assert_close(free.module()(x[:1], 4), model(x[:1], 4))
print("held")
"""


@pytest.mark.timeout(300)
def test_compiled_and_exported():
    """At the policy "argmax"; in a process of its own, for compilers cannot look through run-time checks."""
    done = subprocess.run([sys.executable, "-c", _COMPILE], capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.strip() == "held"


# --- by name --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["pcsr_fsrcnn_x4", "pcsr_carn_x4", "pcsr_srresnet_x4", "fsrcnn_x4", "carn_m_x4", "srresnet_x4"]
)
@torch.no_grad()
def test_registered_networks_are_saved_and_come_back(name, tmp_path):
    model = zoo.create_model(name).eval()
    assert sum(p.numel() for p in model.parameters()) == zoo.registry.model_entry(name).params
    assert model.task == "super-resolution"
    zoo.save_pretrained(model, tmp_path / "saved")
    again = zoo.create_model(f"local-dir:{tmp_path / 'saved'}").eval()
    x = _images(1, 3, 8, 8)
    assert torch.equal(again(x), model(x))
    assert again.normalisation.mean == model.normalisation.mean
    assert zoo.data_config(again)["mean"] == (0.0, 0.0, 0.0)  # normalisation is inside


@torch.no_grad()
def test_mean_and_deviation_are_saved_with_the_model(tmp_path):
    """And so are a backbone of timm's, three networks, and that there is no scale of its own."""
    backbone = {"name": "convnext_atto", "patch_size": 1}
    model = PCSR(backbone, THREE, (), mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), scale=None).eval()
    zoo.save_pretrained(model, tmp_path / "saved")
    again = zoo.create_model(f"local-dir:{tmp_path / 'saved'}").eval()
    assert (again.normalisation.mean, again.normalisation.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert again.scale is None
    x = _images(1, 3, 8, 8)
    assert torch.equal(again(x, 2), model(x, 2))
    zoo.save_pretrained(again, tmp_path / "twice")


def test_a_model_around_a_module_has_no_name_to_be_made_again_by(tmp_path):
    with pytest.raises(zoo.errors.ConfigError, match="not made by a registered name"):
        zoo.save_pretrained(PCSR(_Own()), tmp_path / "saved")


def test_options_of_registered_networks():
    assert zoo.create_model("carn_m_x4", scale=3).scale == 3
    assert zoo.create_model("pcsr_carn_x4", scale=2, classifier=[4]).classifier.hidden == (4,)
    with pytest.raises(TypeError, match="carn takes no argument 'nff'; did you mean 'nf'"):
        zoo.create_model("carn_m_x4", nff=3)
    with pytest.raises(ValueError, match="has no classes; got num_classes=10"):
        zoo.create_model("pcsr_carn_x4", num_classes=10)
