"""Sums and finiteness of weights files: one pass, remembered for the unchanged file."""

import hashlib
import os
import time

import pytest
import safetensors.torch
import torch

from zoo.errors import ChecksumError, NonFiniteWeightsError
from zoo.weights import verify
from zoo.weights.safetensors_file import SafetensorsFile
from zoo.weights.verify import check_file, check_sha256, first_non_finite, scan, sha256_of


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file({"a": torch.ones(70_000), "b": torch.zeros(3)}, path)
    return path


def settle():
    time.sleep(2 * verify._SETTLED)


def test_one_pass_gives_the_sum_of_all_bytes(path):
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert scan(SafetensorsFile(path), sha256=True).sha256 == expected
    assert sha256_of(path) == expected


def test_a_wrong_sum_names_file_and_both_sums(path):
    real = sha256_of(path)
    with pytest.raises(ChecksumError) as caught:
        check_file(SafetensorsFile(path), sha256="0" * 64, origin="model.safetensors of me/mine@main")
    for part in ("0" * 64, real, "me/mine@main", str(path), "fetch it again"):
        assert part in str(caught.value)
    check_sha256(path, real.upper())


def test_the_second_look_is_free_and_a_changed_byte_is_seen(path, monkeypatch):
    settle()
    digest = sha256_of(path)
    stat = path.stat()
    monkeypatch.setattr(verify.hashlib, "file_digest", lambda *_: pytest.fail("the file was read again"))
    assert sha256_of(path) == digest
    monkeypatch.undo()
    monkeypatch.setenv("HF_HOME", str(verify.memo_path().parents[1]))
    with open(path, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x40")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # a change that hides its time
    assert sha256_of(path) != digest


def test_a_file_that_has_just_been_written_is_not_trusted_to_its_time_stamp(path):
    os.utime(path)
    sha256_of(path)
    assert verify._recall(path) == {}


def test_the_check_of_a_known_file_of_100_mb_takes_under_5_ms(tmp_path):
    path = tmp_path / "large.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(25_000_000)}, path)
    settle()
    file = SafetensorsFile(path)
    first = scan(file, sha256=True)
    begin = time.process_time()
    assert scan(file, sha256=True) == first
    assert time.process_time() - begin < 0.005


def test_what_is_remembered_is_bounded_and_survives_a_broken_memo(path, tmp_path, monkeypatch):
    monkeypatch.setattr(verify, "_REMEMBERED", 3)
    files = [tmp_path / f"{i}.bin" for i in range(5)]
    for file in files:
        file.write_bytes(b"x")
    settle()
    for file in files:
        sha256_of(file)
    assert [bool(verify._recall(file)) for file in files] == [False, False, True, True, True]
    verify.memo_path().write_text("{broken")
    assert len(sha256_of(path)) == 64
    assert len(sha256_of(path)) == 64


def test_a_memo_that_cannot_be_written_costs_nothing_but_time(path, monkeypatch, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("HF_HOME", str(blocked))
    settle()
    assert sha256_of(path) == sha256_of(path)


DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64, torch.float8_e5m2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 599_999])
def test_the_first_tensor_that_is_not_finite_is_named(tmp_path, dtype, value, place):
    bad = torch.zeros(600_000).to(dtype)
    bad.view(torch.uint8).view(-1, dtype.itemsize)[place] = torch.tensor([value]).to(dtype).view(torch.uint8)
    path = tmp_path / "x.safetensors"
    safetensors.torch.save_file({"good": torch.ones(5), "layer.weight": bad}, path)
    for _ in range(2):  # the second answer comes from memory
        with pytest.raises(NonFiniteWeightsError) as caught:
            check_file(SafetensorsFile(path))
    assert "'layer.weight'" in str(caught.value)
    assert "check_finite=False" in str(caught.value)
    assert first_non_finite({"good": torch.ones(5), "layer.weight": bad}) == "layer.weight"
    check_file(SafetensorsFile(path), check_finite=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_large_finite_values_whose_sum_overflows_are_finite(tmp_path, dtype):
    path = tmp_path / "x.safetensors"
    safetensors.torch.save_file({"a": torch.full((1000,), torch.finfo(dtype).max, dtype=dtype)}, path)
    check_file(SafetensorsFile(path))


def test_a_lone_infinite_bound_is_no_broken_weight_but_a_lone_nan_is():
    assert first_non_finite({"bound": torch.tensor(float("inf"))}) is None
    assert first_non_finite({"bound": torch.tensor(float("nan"))}) == "bound"
