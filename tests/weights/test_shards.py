"""Sharded weights: what transformers' own helpers would write, read back as the same tensors, shared ones shared."""

import hashlib
import json

import pytest
import torch
from huggingface_hub import load_torch_model, split_torch_state_dict_into_shards
from safetensors.torch import load_file
from torch import nn

from zoo.errors import ChecksumError, CorruptFileError, NonFiniteWeightsError
from zoo.sizes import byte_count
from zoo.weights import load_weights
from zoo.weights.shards import is_weights_name, plan_shards, save_sharded
from zoo.weights.source import INDEX_NAME, open_checkpoint


@pytest.mark.parametrize(
    ("size", "bytes_"),
    [
        (1, 1),
        ("5GB", 5 * 10**9),
        ("500MB", 5 * 10**8),
        ("4 GiB", 4 * 2**30),
        ("1.5kb", 1500),
        ("12B", 12),
        ("2000000", 2 * 10**6),
        (" 5 ", 5),
    ],
)
def test_sizes_are_numbers_or_texts(size, bytes_):
    assert byte_count(size, "max_shard_size") == bytes_


@pytest.mark.parametrize("size", ["", "1.5", "GB", "5GBs", "--5GB", "five", "5 XB", "nanGB"])
def test_a_text_that_is_no_size_is_refused_with_the_way_to_write_one(size):
    with pytest.raises(ValueError, match=r"max_shard_size='.*' is no size: write '500MB', '5GB'"):
        byte_count(size, "max_shard_size")


@pytest.mark.parametrize("size", [0, -1, "0", "-1", "-5GB", "0GB", "0.0001B"])
def test_a_size_must_be_above_zero(size):
    with pytest.raises(ValueError, match="must be above 0"):
        byte_count(size, "max_shard_size")


@pytest.mark.parametrize("size", [None, True, 1.5, b"5GB"])
def test_what_is_neither_number_nor_text_is_refused(size):
    with pytest.raises(TypeError, match="number of bytes or a text"):
        byte_count(size, "max_shard_size")


def tensors():
    generator = torch.Generator().manual_seed(0)
    sizes = {"a": 10, "b": 30, "big": 100, "c": 5, "d": 5, "e": 40, "none": 0}
    return {name: torch.randn(size, generator=generator) for name, size in sizes.items()}


@pytest.mark.parametrize(
    ("limit", "groups"),
    [
        (10**6, [["a", "b", "big", "c", "d", "e", "none"]]),
        (760, [["a", "b", "big", "c", "d", "e", "none"]]),
        (759, [["a", "b", "big", "c", "d"], ["e", "none"]]),
        (200, [["a", "b"], ["big"], ["c", "d", "e", "none"]]),
        (160, [["a", "b"], ["big"], ["c", "d"], ["e", "none"]]),
        (1, [["a"], ["b"], ["big"], ["c"], ["d"], ["e"], ["none"]]),
    ],
)
def test_tensors_fill_files_in_the_order_of_their_names(limit, groups):
    plan = plan_shards(tensors(), limit)
    assert list(plan.values()) == groups
    theirs = split_torch_state_dict_into_shards(tensors(), max_shard_size=limit)
    count = len(groups)
    names = [f"model-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]
    assert list(plan) == (names if count > 1 else ["model.safetensors"])
    if len(theirs.filename_to_tensors) == count:
        assert list(plan) == list(theirs.filename_to_tensors)


def test_shards_and_index_hold_every_tensor_once_and_the_sums_are_those_of_the_files(tmp_path):
    given = tensors()
    files = save_sharded(given, tmp_path, max_shard_size=200)
    index = json.loads((tmp_path / INDEX_NAME).read_text())
    assert index["metadata"]["total_size"] == sum(t.numel() * 4 for t in given.values())
    assert index["weight_map"].keys() == given.keys()
    assert set(index["weight_map"].values()) == files.keys() == {p.name for p in tmp_path.glob("*.safetensors")}
    assert len(files) > 1
    for name, facts in files.items():
        data = (tmp_path / name).read_bytes()
        assert facts == {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        for tensor, value in load_file(tmp_path / name).items():
            assert index["weight_map"][tensor] == name
            assert torch.equal(value, given[tensor])
    again = save_sharded(dict(reversed(given.items())), tmp_path / "again", max_shard_size=200)
    assert again == files
    read = open_checkpoint(tmp_path).tensors
    assert all(torch.equal(read[name], value) for name, value in given.items())


def test_below_the_limit_there_is_one_file_and_no_index(tmp_path):
    assert list(save_sharded(tensors(), tmp_path, max_shard_size="1MB")) == ["model.safetensors"]
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 8)
        self.middle = nn.Linear(8, 8)
        self.out = nn.Linear(8, 50, bias=False)
        self.out.weight = self.embed.weight
        table = torch.arange(12.0)
        self.register_buffer("head", table[:8])
        self.register_buffer("tail", table[4:])
        self.register_buffer("wide", torch.arange(3.0).expand(5, 3))


def test_tied_overlapping_and_expanded_tensors_survive_shards(tmp_path):
    torch.manual_seed(0)
    model = Tied()
    save_sharded(model.state_dict(), tmp_path, max_shard_size=300)
    homes = json.loads((tmp_path / INDEX_NAME).read_text())["weight_map"]
    assert len(set(homes.values())) > 2
    assert ("embed.weight" in homes, "out.weight" in homes) == (True, False)
    again = Tied()
    load_weights(again, tmp_path, assign=True)
    assert again.out.weight is again.embed.weight
    ours, theirs = model.state_dict(), again.state_dict()
    assert all(torch.equal(theirs[name], value) for name, value in ours.items())
    third = Tied()
    third.wide = third.wide.contiguous()  # torch cannot write into an expanded tensor
    load_torch_model(third, tmp_path, strict=False)
    assert torch.equal(third.out.weight, model.out.weight)
    assert torch.equal(third.tail, model.tail)


def test_nan_is_refused_before_anything_is_written(tmp_path):
    bad = tensors()
    bad["e"][3] = float("nan")
    with pytest.raises(NonFiniteWeightsError, match="'e'"):
        save_sharded(bad, tmp_path, max_shard_size=100)
    assert list(tmp_path.iterdir()) == []


def test_names_of_ours_are_known():
    ours = ("model.safetensors", INDEX_NAME, "model-00001-of-00002.safetensors", "model-123456-of-200000.safetensors")
    assert all(map(is_weights_name, ours))
    others = ("pytorch_model.bin", "ema.safetensors", "model-1-of-2.safetensors", "model-00001-of-00002.bin", "x/model")
    assert not any(map(is_weights_name, others))


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_shard_is_named(tmp_path, damage):
    import zoo

    torch.manual_seed(0)
    zoo.save_pretrained(zoo.create_model("test_vit", num_classes=3), tmp_path / "a", max_shard_size="500KB")
    shard = tmp_path / "a/model-00002-of-00003.safetensors"
    data = bytearray(shard.read_bytes())
    data[-5] ^= 1
    if damage == "gone":
        shard.unlink()
    else:
        shard.write_bytes(bytes(data) if damage == "flip" else bytes(data[:-8]))
    with pytest.raises(ChecksumError if damage == "flip" else CorruptFileError, match="model-00002-of-00003") as caught:
        zoo.create_model(f"local-dir:{tmp_path / 'a'}")
    assert str(tmp_path / "a") in str(caught.value)
