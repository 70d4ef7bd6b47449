"""Modules that say `zoo_keep_fp32` compute in float32 under bfloat16, and nobody else notices."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import zoo
from tests.training.helpers import QUICK, few_digits, tiny_net
from zoo.training.float32 import float32_kept


class Fine(nn.Module):
    """Adds a thousand, maps, and takes it away again: nothing is left of x in bfloat16."""

    def __init__(self, keep: bool, width: int = 4):
        super().__init__()
        self.zoo_keep_fp32 = keep
        self.map = nn.Linear(width, width, bias=False)
        nn.init.eye_(self.map.weight)
        self.seen: list[tuple[torch.dtype, bool]] = []

    def forward(self, x: Tensor, pair: Any = None, *, shift: Tensor | None = None) -> Any:
        self.seen.append((x.dtype, torch.is_autocast_enabled("cpu")))
        y = self.map(x + 1000) - 1000
        if shift is not None:
            y = y + shift
        return y if pair is None else (y, pair[0], pair[1])


def under_bf16(module: Any, *args: Any, **kwargs: Any) -> Any:
    with torch.autocast("cpu", torch.bfloat16):
        return module(*args, **kwargs)


def test_it_computes_in_float32_and_answers_in_the_callers_kind() -> None:
    module, x = Fine(True), torch.randn(3, 4)
    assert not torch.allclose(under_bf16(module, x).float(), x, atol=0.05)
    with float32_kept(nn.Sequential(module)):
        assert torch.allclose(under_bf16(module, x), x, atol=1e-3)
        assert under_bf16(module, x).dtype == torch.float32
        half = under_bf16(module, x.bfloat16())
        assert half.dtype == torch.bfloat16
        assert torch.allclose(half.float(), x, atol=0.02)
        whole = torch.arange(2)
        out, first, second = under_bf16(module, x.bfloat16(), (whole, x.double()), shift=torch.ones(4).bfloat16())
        assert torch.allclose(out.float(), x + 1, atol=0.03)
        assert (first.dtype, second.dtype) == (torch.int64, torch.float64)
    assert module.seen[1:] == [(torch.float32, False)] * 4
    assert "forward" not in vars(module)
    assert not [name for name in vars(module) if name.startswith("_zoo")]


def test_modules_without_the_word_are_left_alone() -> None:
    model = nn.Sequential(Fine(False), nn.Linear(4, 4))
    before = [dict(vars(m)) for m in model.modules()]
    with float32_kept(model, None):
        assert under_bf16(model, torch.randn(2, 4)).dtype == torch.bfloat16
        assert [dict(vars(m)) for m in model.modules()] == before


def test_a_copy_is_its_own_and_opening_twice_is_once() -> None:
    module = Fine(True)
    with float32_kept(module):
        twin = copy.deepcopy(module)
        with torch.no_grad():
            twin.map.weight.mul_(2)
        with float32_kept(module):
            under_bf16(module, torch.zeros(1, 4))
        assert "forward" in vars(module)
        x = torch.randn(2, 4)
        assert torch.allclose(under_bf16(twin, x), 2 * x + 1000, atol=1e-3)
        assert torch.allclose(under_bf16(module, x), x, atol=1e-3)


def test_a_forward_that_was_there_is_called_and_given_back() -> None:
    module = Fine(True)

    def mine(x: Tensor) -> Tensor:
        return x * 3

    module.forward = mine  # type: ignore[method-assign, assignment]
    with float32_kept(module):
        assert torch.equal(under_bf16(module, torch.ones(2, 4)), torch.full((2, 4), 3.0))
    assert vars(module)["forward"] is mine


def test_gradients_flow_in_float32() -> None:
    module, x = Fine(True), torch.randn(3, 4, requires_grad=True)
    with float32_kept(module):
        under_bf16(module, x).sum().backward()
    assert torch.equal(x.grad, torch.ones(3, 4))  # type: ignore[arg-type]
    assert module.map.weight.grad is not None
    assert torch.allclose(module.map.weight.grad, (x + 1000).detach().sum(0).expand(4, 4), rtol=1e-6)


def test_it_can_be_compiled() -> None:
    model = nn.Sequential(nn.Linear(4, 4), Fine(True))
    with float32_kept(model):
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        x = torch.randn(3, 4)
        assert torch.allclose(under_bf16(compiled, x).float(), under_bf16(model, x).float(), atol=1e-2)


def test_fine_tuning_and_evaluation_keep_it(tmp_path: Path) -> None:
    model = tiny_net()
    fine = Fine(True, width=512)
    model.drop = fine
    options = {**QUICK, "amp": "bf16", "epochs": 1, "ema": 0.9}
    result = zoo.finetune(model, few_digits(), out=tmp_path, **options)
    assert set(fine.seen) == {(torch.float32, False)}
    assert "forward" not in vars(fine)
    assert not [name for name in vars(model) if name.startswith("_zoo") or name == "forward"]
    fine.seen.clear()
    zoo.evaluate(result.model, few_digits(), amp="bf16", progress=False)
    assert set(fine.seen) == {(torch.float32, False)}
    fine.zoo_keep_fp32 = False
    fine.seen.clear()
    zoo.finetune(model, few_digits(), out=tmp_path / "b", **options)
    assert {autocast for _, autocast in fine.seen} == {True}


def test_a_whole_model_that_keeps_it_trains_as_without_amp(tmp_path: Path) -> None:
    losses = []
    for amp in ("bf16", "no"):
        model: Any = tiny_net()
        model.zoo_keep_fp32 = True
        result = zoo.finetune(model, few_digits(), out=tmp_path / amp, **{**QUICK, "amp": amp, "ema": 0.9})
        losses.append([(r["train_loss"], r["val_loss"], r["ema_loss"]) for r in result.history])
        assert not {"forward", "_original_forward"} & vars(model).keys()
    assert losses[0] == losses[1]


@pytest.mark.parametrize("keep", [False, True])
def test_a_kan_trained_in_bfloat16_is_near_float32(tmp_path: Path, keep: bool) -> None:
    """Its basis is made in float32 in any case; keeping the products in float32, too, is possible."""
    from zoo.layers import FasterKANLayer

    def losses(amp: str, out: str) -> list[float]:
        torch.manual_seed(0)
        model = zoo.create_model("medvit2_kan_nano", num_classes=10)
        for module in model.modules():
            if isinstance(module, FasterKANLayer):
                module.zoo_keep_fp32 = keep  # type: ignore[assignment]
        options = {**QUICK, "lr": 1e-3, "aug": "none", "save_every": None, "amp": amp}
        data = few_digits(train=64, val=32, test=16)
        return [row["train_loss"] for row in zoo.finetune(model, data, out=tmp_path / out, **options).history]

    assert losses("bf16", "half") == pytest.approx(losses("no", "full"), rel=0.05)
