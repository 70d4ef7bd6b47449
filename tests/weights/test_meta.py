"""Weights into a model built without memory: equal to the ordinary way, or done the ordinary way."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from zoo.errors import MismatchError
from zoo.weights import build_with_weights, load_into_meta, save_safetensors
from zoo.weights.meta import CannotMaterialiseError

ROOT = Path(__file__).parents[2]

# One of each kind that computes or keeps something beside its weights.
MODELS = {
    "test_vit": {},
    "test_resnet": {},
    "test_convnext": {},
    "test_nfnet": {},  # standardised weights
    "test_efficientnet": {},
    "test_coatnet": {},  # relative position biases
    "test_vit_relpos": {},
    "resnetblur18": {},  # blur filters
    "swin_tiny_patch4_window7_224": {"embed_dim": 24, "depths": (2, 2, 2, 2)},  # indices and masks
    "swinv2_tiny_window8_256": {"embed_dim": 24, "depths": (2, 2, 2, 2)},  # coordinate tables
    "vit_tiny_patch16_dinov3_qkvb": {"depth": 2},  # rotary embedding
    "eva02_tiny_patch14_224": {"depth": 2},
    "convit_tiny": {"depth": 3},  # relative indices kept as an attribute
    "levit_128s": {},
    "beit_base_patch16_224": {"embed_dim": 96, "depth": 2, "num_heads": 3},
    "halonet_h1": {},
    "rexnet_100": {},  # sizes that no alignment suits
}


def output(model, seed=0):
    size = model.pretrained_cfg["input_size"]
    image = torch.randn(1, *size, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return model.eval()(image)


@pytest.mark.parametrize("name", MODELS)
def test_equals_the_ordinary_way_bit_for_bit(tmp_path, name):
    def build():
        return timm.create_model(name, num_classes=11, **MODELS[name])

    torch.manual_seed(0)
    source = build()
    path = tmp_path / "x.safetensors"
    save_safetensors(source.state_dict(), path)
    state = torch.random.get_rng_state()
    with torch.device("meta"):
        model = build()
    report = load_into_meta(model, path)
    assert torch.equal(torch.random.get_rng_state(), state)  # nothing was initialised to be thrown away
    assert report.missing == []
    assert all(not t.is_meta for t in (*model.parameters(), *model.buffers()))
    for kind in ("named_parameters", "named_buffers"):
        ours, theirs = dict(getattr(model, kind)()), dict(getattr(source, kind)())
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert torch.equal(ours[key], theirs[key]), key
            assert ours[key].dtype == theirs[key].dtype
            assert ours[key].requires_grad == theirs[key].requires_grad
    assert torch.equal(output(model), output(source))


def test_the_model_trains_and_leaves_its_file_alone(tmp_path):
    source = timm.create_model("test_vit", num_classes=3)
    path = tmp_path / "x.safetensors"
    save_safetensors(source.state_dict(), path)
    before = path.read_bytes()
    model, _ = build_with_weights(lambda: timm.create_model("test_vit", num_classes=3), path)
    assert model.training
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.randn(2, 3, 160, 160)).square().sum().backward()
    optimizer.step()
    assert not torch.equal(model.head.weight, source.head.weight)
    assert path.read_bytes() == before


def test_a_new_head_is_initialised_and_the_backbone_is_the_file_s(tmp_path):
    source = timm.create_model("test_vit", num_classes=3)
    save_safetensors(source.state_dict(), tmp_path / "x.safetensors")
    torch.manual_seed(5)
    model, report = build_with_weights(
        lambda: timm.create_model("test_vit", num_classes=4, in_chans=1), tmp_path / "x.safetensors"
    )
    assert report.missing == ["head.weight", "head.bias"]
    assert model.head.weight.shape == (4, source.num_features)
    assert 0 < model.head.weight.std() < 1
    assert model.head.weight.isfinite().all()
    assert torch.equal(model.norm.weight, source.norm.weight)
    expected = source.patch_embed.proj.weight.sum(dim=1, keepdim=True)
    assert torch.equal(model.patch_embed.proj.weight, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_model_keeps_the_type_it_was_built_with(tmp_path, dtype):
    source = timm.create_model("test_vit")
    save_safetensors(source.state_dict(), tmp_path / "x.safetensors")
    model, _ = build_with_weights(lambda: timm.create_model("test_vit", dtype=dtype), tmp_path / "x.safetensors")
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert torch.equal(model.head.weight, source.head.weight.to(dtype))


class Net(nn.Module):
    """A buffer that is computed in the constructor and not saved, remade or not."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)
        self.register_buffer("table", torch.arange(3.0), persistent=False)


class Remakes(Net):
    def init_non_persistent_buffers(self):
        self.table.copy_(torch.arange(3.0))


class Forgets(Net):
    def init_non_persistent_buffers(self):
        self.table[:2].copy_(torch.arange(2.0))


class KeepsAttribute(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)
        self.levels = {"all": [torch.arange(3.0)]}


class Computes(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)
        self.scale = torch.ones(1).item()  # impossible without values


STATE = {"fc.weight": torch.ones(3, 3), "fc.bias": torch.zeros(3)}


def test_computed_buffers_are_remade():
    with torch.device("meta"):
        model = Remakes()
    load_into_meta(model, STATE)
    assert model.table.tolist() == [0, 1, 2]


@pytest.mark.parametrize(("kind", "said"), [(Net, "table"), (Forgets, "table"), (KeepsAttribute, "levels")])
def test_what_cannot_be_remade_is_told_and_built_the_ordinary_way(kind, said):
    with torch.device("meta"):
        model = kind()
    with pytest.raises(CannotMaterialiseError, match=said):
        load_into_meta(model, STATE)
    model, report = build_with_weights(kind, STATE)
    assert report.loaded == ["fc.weight", "fc.bias"]
    kept = model.levels["all"][0] if kind is KeepsAttribute else model.table
    assert kept.tolist() == [0, 1, 2]


def test_a_constructor_that_needs_values_is_run_the_ordinary_way():
    model, _ = build_with_weights(Computes, STATE)
    assert model.scale == 1
    assert torch.equal(model.fc.weight, STATE["fc.weight"])


def test_an_error_of_the_constructor_is_raised_as_it_is():
    with pytest.raises(ZeroDivisionError):
        build_with_weights(lambda: 1 / 0, STATE)


def test_a_missing_part_that_has_no_initialisation_of_its_own_is_built_the_ordinary_way():
    class Part(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.full((2,), 7.0))

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.part = nn.Linear(3, 3), Part()

    model, report = build_with_weights(Whole, STATE, strict=False)
    assert report.missing == ["part.scale"]
    assert model.part.scale.tolist() == [7, 7]


def test_a_reset_that_leaves_something_out_is_noticed():
    class Lazy(nn.Linear):
        def reset_parameters(self):
            nn.init.zeros_(self.weight)

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.pretrained_cfg = {"classifier": "head"}
            self.fc, self.head = nn.Linear(3, 3), Lazy(3, 2)
            nn.init.ones_(self.head.bias)

    with torch.device("meta"):
        model = Whole()
    with pytest.raises(CannotMaterialiseError, match="leaves 'bias'"):
        load_into_meta(model, STATE)
    model, _ = build_with_weights(Whole, STATE)
    assert model.head.bias.tolist() == [1, 1]


def test_tied_parameters_stay_tied(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.out = nn.Embedding(5, 4), nn.Linear(4, 5)
            self.out.weight = self.embed.weight

    source = Tied()
    save_safetensors(source.state_dict(), tmp_path / "x.safetensors")
    model, _ = build_with_weights(Tied, tmp_path / "x.safetensors")
    assert model.out.weight is model.embed.weight
    assert torch.equal(model.out.weight, source.out.weight)


def test_a_file_that_does_not_fit_is_refused_before_the_model_is_real():
    built = []

    def build():
        built.append(torch.get_default_device().type)
        return Net()

    with pytest.raises(MismatchError, match=r"fc\.bias"):
        build_with_weights(build, {"fc.weight": torch.ones(3, 3)})
    assert built == ["meta"]


def test_memory_stays_with_the_file(tmp_path):
    """86 M parameters: little beside the mapped file, and next to nothing for a file that is refused."""
    code = f"""
        import torch, timm
        from pathlib import Path
        from benchmarks._measure import _forget_high_water, _memory
        from zoo.errors import CorruptFileError
        from zoo.weights import build_with_weights, save_safetensors
        path = Path({str(tmp_path)!r}) / "x.safetensors"
        with torch.device("meta"):
            shapes = {{k: v.shape for k, v in timm.create_model("vit_base_patch16_224").state_dict().items()}}
        save_safetensors({{k: torch.zeros(s) for k, s in shapes.items()}}, path)
        def grown(build):
            before = _forget_high_water()
            result = build()
            return (_memory("VmHWM") - before) / path.stat().st_size
        build = lambda: build_with_weights(lambda: timm.create_model("vit_base_patch16_224"), path)
        print(grown(build))
        with open(path, "r+b") as file:
            file.truncate(path.stat().st_size - 1)
        def refused():
            try:
                build()
            except CorruptFileError as error:
                assert "real size" in str(error)
            else:
                raise AssertionError("accepted")
        print(grown(refused))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    loaded, refused = map(float, done.stdout.split())
    assert loaded < 0.2
    assert refused < 0.02
