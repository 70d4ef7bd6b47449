"""What a model may make before it is refused, and that honest models are far from it."""

import pytest
import torch
from torch import nn

import zoo
from zoo.errors import MismatchError
from zoo.weights.bounds import bounded_build, check_computed, grows

SMALL = {"w": torch.zeros(10)}


def test_too_many_modules_or_parameters_end_the_construction():
    made = []

    def endless():
        for _ in range(10**9):
            made.append(nn.Sequential(nn.Identity()))

    said = r"x holds 1 tensors of 40 bytes.*more than 3,006 modules"
    with pytest.raises(MismatchError, match=said), bounded_build(SMALL, "x"):
        endless()
    assert len(made) == 3006
    said = "more than 3,004 parameters"
    with pytest.raises(MismatchError, match=said), bounded_build(SMALL, "x"), torch.device("meta"):
        nn.ParameterList(nn.Parameter(torch.empty(1)) for _ in range(10**5))


def test_memory_is_counted_where_it_is_taken_and_not_on_meta():
    with bounded_build(SMALL, "x"), torch.device("meta"):
        nn.Linear(10**6, 10**6)
    with pytest.raises(MismatchError, match="more than 268,436,096 bytes"), bounded_build(SMALL, "x"):
        nn.Linear(10**4, 10**4, bias=False)


def test_outside_the_block_nothing_is_counted():
    with bounded_build(SMALL, "x"):
        nn.Linear(2, 2)
    nn.ModuleList(nn.Identity() for _ in range(5000))
    assert not nn.modules.module._global_module_registration_hooks
    assert not nn.modules.module._global_parameter_registration_hooks


def test_tables_and_growth():
    table = torch.empty(10**9, device="meta")
    with pytest.raises(MismatchError, match="computes tables of 4,000,000,000 bytes"):
        check_computed([table], SMALL, "x")
    check_computed([torch.empty(10**6)], SMALL, "x")
    assert grows({"w": torch.empty(10**9, device="meta")}, SMALL)
    assert not grows({"w": torch.empty(1000), "other": table}, SMALL)


def test_positions_of_larger_images_are_still_resampled(tmp_path):
    zoo.save_pretrained(zoo.create_model("test_vit", num_classes=3, img_size=32), tmp_path / "m")
    model = zoo.create_model(f"local-dir:{tmp_path / 'm'}", img_size=1024)
    assert model.pos_embed.shape[1] == 64 * 64 + 1


def test_a_head_of_very_many_classes_is_the_caller_s_choice(tmp_path):
    zoo.save_pretrained(zoo.create_model("test_resnet", num_classes=3), tmp_path / "m")
    assert zoo.create_model(f"local-dir:{tmp_path / 'm'}", num_classes=900_000).num_classes == 900_000
