"""Circuits inside backbones: as head and mlp, saved and loaded with all that they are made of, fine-tuned."""

from __future__ import annotations

import copy

import pytest
import torch

import zoo
from tests.composition.helpers import build, call_of
from zoo.errors import UnsupportedSurgery
from zoo.quantum import Circuit, DressedCircuit, NoiseModel, QuantumLayer, feature, make_channel
from zoo.training.float32 import float32_kept
from zoo.weights.adapt import classifier_names

VIT = {"img_size": 32, "num_classes": 3}
IMAGE = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
SMALL = {"type": "circuit/dressed", "n_qubits": 3, "depth": 2}


def same_again(model, folder):
    zoo.save_pretrained(model, folder)
    again = zoo.create_model(f"local-dir:{folder}").eval()
    torch.manual_seed(5)
    wanted = model(IMAGE)
    torch.manual_seed(5)
    assert torch.equal(again(IMAGE), wanted)
    assert again.zoo_spec == model.zoo_spec
    return again


@pytest.mark.parametrize("base", ["test_resnet", "test_convnext", "test_efficientnet", "test_vit"])
def test_a_dressed_head(base, tmp_path):
    model = build(base, head=SMALL, num_classes=3, **({"img_size": 32} if base == "test_vit" else {}))
    head = model.get_classifier()
    assert isinstance(head, DressedCircuit)
    assert (head.circuit.n_qubits, head.circuit.n_layers) == (3, 2)
    assert model.pretrained_cfg["classifier"].endswith(".post")
    assert [model.get_submodule(name) for name in classifier_names(model)] == [head]
    again = same_again(model, tmp_path / "model")
    again.reset_classifier(5)
    head = again.get_classifier()
    assert isinstance(head, DressedCircuit)
    assert head.circuit.n_qubits == 3
    assert again(IMAGE).shape == (2, 5)


@pytest.mark.parametrize(
    "options",
    [
        {"type": "circuit/quantum", "observables": ["Z0", "X0 Y1"], "encoding": "iqp:2", "ansatz": "sim14"},
        {"type": "circuit/reuploading", "n_qubits": 2, "shots": 30},
        {
            "type": "circuit/dressed",
            "n_qubits": 2,
            "depth": 1,
            "noise": NoiseModel({"2q": make_channel("depolarizing", 0.05)}, readout=0.02).to_dict(),
        },
    ],
)
def test_a_head_with_all_its_options_is_saved(options, tmp_path):
    again = same_again(build("test_vit", head=options, **VIT), tmp_path / "model")
    circuit = again.get_classifier().circuit
    assert circuit.shots == options.get("shots")
    assert (circuit.noise is None) == ("noise" not in options)
    if "noise" in options:
        assert circuit.noise.to_dict() == options["noise"]
    if "ansatz" in options:
        assert (circuit.reads, circuit.ansatz, circuit.encoding) == (["Z0", "X0 Y1"], "sim14", "iqp:2")


def test_objects_are_saved_as_what_they_write(tmp_path):
    own = Circuit(2).ry(feature(0), 0).ry(2 * feature(1), 1).cx(0, 1).rx("a", 0).ry("b", 1)
    noise = NoiseModel(readout=0.1)
    again = same_again(
        build("test_vit", head={"type": "circuit/quantum", "circuit": own, "noise": noise}, **VIT), tmp_path / "model"
    )
    circuit = again.get_classifier().circuit
    assert circuit.circuit.to_dict() == own.to_dict()
    assert circuit.noise == noise


def test_a_circuit_in_every_block(tmp_path):
    mlp = {**SMALL, "where": "last:2"}
    model = build("test_vit", mlp=mlp, head="circuit/reuploading", **VIT)
    same_again(model, tmp_path / "model")
    paths = [name for name, part in model.named_modules() if isinstance(part, DressedCircuit)]
    assert len(paths) == 3
    part = model.get_submodule(paths[0])
    x, _, out = call_of(model, paths[0], IMAGE)
    rows = torch.stack([DressedCircuit.forward(part, row) for row in x.flatten(0, -2)])
    torch.testing.assert_close(out, rows.view_as(out), rtol=1e-4, atol=1e-5)


def test_the_class_of_a_layer_of_ones_own():
    class Own(QuantumLayer):
        """A circuit that someone wrote, in the place of a classifier."""

        def __init__(self, in_features: int, out_features: int, device=None, dtype=None):
            circuit = Circuit(2)
            for i in range(in_features):
                circuit.rx(0.1 * feature(i), i % 2).cx(0, 1).ry(f"w{i}", i % 2)
            super().__init__(circuit=circuit, out_features=out_features, device=device, dtype=dtype)

    model = build("test_resnet", head=Own, num_classes=4)
    head = model.get_classifier()
    assert isinstance(head, Own)
    assert head.in_features == 96
    assert model(IMAGE).shape == (2, 4)


def test_an_option_that_a_circuit_refuses_is_told_with_its_place():
    with pytest.raises(UnsupportedSurgery, match=r"refuses its options.*did you mean 'sim14'"):
        zoo.create_model("test_resnet", head={**SMALL, "ansatz": "sim14x"})
    with pytest.raises(TypeError, match=r"no argument 'n_qubit'.*did you mean 'n_qubits'"):
        zoo.create_model("test_resnet", head={"type": "circuit/dressed", "n_qubit": 3})


def test_the_circuit_stays_in_float32_when_the_rest_does_not():
    model = build("test_vit", head=SMALL, **VIT)
    half = copy.deepcopy(model).bfloat16()
    with float32_kept(model):
        with torch.autocast("cpu", torch.bfloat16):
            mixed = model(IMAGE)
        torch.testing.assert_close(mixed.float(), model(IMAGE), rtol=0, atol=0.02)
    torch.testing.assert_close(half(IMAGE.bfloat16()).float(), model(IMAGE), rtol=0, atol=0.05)


def test_it_is_fine_tuned_and_loaded_again(tmp_path):
    """A new head on features that are there already."""
    torch.manual_seed(0)
    model = zoo.create_model("tversky_mnist_cnn.digits", pretrained=True, head={**SMALL, "depth": 1}, num_classes=2)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    data = "digits?classes=0,1"
    result = zoo.finetune(
        model,
        data,
        out=tmp_path / "run",
        epochs=1,
        batch_size=8,
        lr=0.02,
        freeze="backbone",
        aug="none",
        progress=False,
    )
    assert result.metrics["accuracy"] > 0.9
    best = zoo.create_model(f"local-dir:{tmp_path / 'run' / 'best'}").eval()
    changed = {name for name, value in best.state_dict().items() if not torch.equal(value, start[name])}
    head = best.get_classifier()
    assert changed == {f"tproj.{name}" for name in head.state_dict()}
    again = zoo.evaluate(best, data, split="test")
    assert again["accuracy"] == pytest.approx(result.metrics["accuracy"])
