"""Runs of different precision follow one another, and an Accelerator of the caller is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState

import zoo
from tests.training.helpers import QUICK, few_digits, tiny_net
from zoo.training.engine import engine, resolve_amp, untouched


def test_precisions_follow_one_another() -> None:
    for amp in ("no", "bf16", "no"):
        with engine(amp, "cpu") as accelerator:
            model = accelerator.prepare(torch.nn.Linear(4, 4))
            with accelerator.autocast():
                assert torch.nn.functional.linear(torch.ones(1, 4), torch.ones(4, 4)).dtype == (
                    torch.bfloat16 if amp == "bf16" else torch.float32
                )
            assert model(torch.ones(1, 4)).dtype == torch.float32  # Accelerate gives outputs back in float32


def test_the_callers_accelerator_is_left_alone(tmp_path: Path) -> None:
    theirs = Accelerator(cpu=True, gradient_accumulation_steps=3)
    try:
        zoo.finetune(tiny_net(), few_digits(), out=tmp_path, **{**QUICK, "amp": "bf16", "epochs": 1})
        assert theirs.mixed_precision == "no"
        assert theirs.gradient_accumulation_steps == 3
        assert theirs.device.type == "cpu"
    finally:
        for state in (AcceleratorState, GradientState, PartialState):
            state._shared_state.clear()


def test_reduced_precision_leaves_a_model_that_can_be_loaded(tmp_path: Path) -> None:
    result = zoo.finetune("test_resnet", few_digits(), out=tmp_path, img_size=32, **{**QUICK, "amp": "bf16"})
    assert "forward" not in vars(result.model)
    again = zoo.create_model(f"local-dir:{tmp_path / 'best'}").eval()
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again(images), result.model(images))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no device 'cuda' on this machine, only cpu; leave device"):
        zoo.finetune("no such model", "no such data", out=tmp_path, device="cuda")


def test_a_model_can_be_trained_again_with_another_precision(tmp_path: Path) -> None:
    model = tiny_net()
    dtypes: list[torch.dtype] = []
    model.body[0].register_forward_hook(lambda module, inputs, output: dtypes.append(output.dtype))
    for number, amp in enumerate(("bf16", "no", "bf16")):
        dtypes.clear()
        zoo.finetune(model, few_digits(), out=tmp_path / str(number), **{**QUICK, "amp": amp, "epochs": 1})
        assert set(dtypes) == {torch.bfloat16 if amp == "bf16" else torch.float32}


def test_traces_are_removed() -> None:
    model = tiny_net()
    before = dict(vars(model))
    with engine("bf16", "cpu") as accelerator, untouched(model):
        accelerator.prepare(model)
        assert "_is_accelerate_prepared" in vars(model)
    assert vars(model) == before


def test_automatic_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_amp("auto", "cpu") == "no"
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert resolve_amp("auto", "cpu") == "bf16"
    assert resolve_amp("no", "cpu") == "no"
