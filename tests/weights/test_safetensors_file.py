"""The reader of safetensors: what is whole is mapped, what is not is refused before memory is taken."""

import copy
import io
import json
import pickle
import shutil
import struct

import pytest
import safetensors.torch
import torch

from zoo.errors import CorruptFileError
from zoo.weights.safetensors_file import SafetensorsFile

TENSORS = {
    "weight": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "count": torch.tensor(7),
    "empty": torch.zeros(0, 4),
    "mask": torch.tensor([True, False, True]),
    "small": torch.tensor([0.5, 448.0]).to(torch.float8_e4m3fn),
    "wave": torch.tensor([1 + 2j], dtype=torch.complex64),
}


def write(path, header, data=b"", length=None):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + data)
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("copied", [False, True])
def test_reads_what_the_format_s_own_library_writes(path, copied):
    safetensors.torch.save_file(TENSORS, path, metadata={"format": "pt", "a": "b"})
    file = SafetensorsFile(path)
    tensors = file.load(copy=copied)
    assert file.metadata == {"format": "pt", "a": "b"}
    assert tensors.keys() == TENSORS.keys()
    for name, expected in TENSORS.items():
        assert tensors[name].dtype == expected.dtype
        assert tensors[name].shape == expected.shape
        assert tensors[name].tolist() == expected.tolist()


def test_a_mapped_tensor_is_private_and_alone_in_its_storage(path):
    big = torch.arange(1 << 18, dtype=torch.float32)
    safetensors.torch.save_file({"a": big, "b": big + 1}, path)
    before = path.read_bytes()
    tensors = SafetensorsFile(path).load()
    tensors["a"].zero_()
    assert path.read_bytes() == before
    assert torch.equal(tensors["b"], big + 1)
    assert tensors["b"].untyped_storage().nbytes() == big.numel() * 4
    stream = io.BytesIO()
    torch.save(tensors["b"], stream)
    assert stream.tell() < 1.1 * big.numel() * 4
    assert copy.deepcopy(tensors["b"]).untyped_storage().nbytes() == big.numel() * 4


def test_a_copy_outlives_the_file(path):
    safetensors.torch.save_file({"a": torch.ones(1 << 17)}, path)
    tensors = SafetensorsFile(path).load(copy=True)
    with open(path, "r+b") as file:
        file.truncate(100)
    assert tensors["a"].sum() == 1 << 17


def test_tensors_at_odd_addresses_are_read(path):
    """The format allows any order; a float may then straddle its natural boundary."""
    data = b"\x07" + struct.pack("<2f", 1.5, -3.0)
    header = {
        "flag": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "x": {"dtype": "F32", "shape": [2], "data_offsets": [1, 9]},
    }
    assert SafetensorsFile(write(path, header, data)).load()["x"].tolist() == [1.5, -3.0]


@pytest.mark.parametrize("cut", [1, 9, 300, 5000])
def test_a_truncated_file_names_expected_and_real_size(path, cut):
    safetensors.torch.save_file({"a": torch.ones(2000)}, path)
    size = path.stat().st_size
    with open(path, "r+b") as file:
        file.truncate(size - cut)
    with pytest.raises(CorruptFileError) as caught:
        SafetensorsFile(path)
    message = str(caught.value)
    assert f"expected size {size:,} bytes, real size {size - cut:,}" in message
    assert str(path) in message
    assert "fetch" in message


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("header", "data", "said"),
    [
        (b"{", b"", "not valid JSON"),
        (b"\xff\xfe", b"", "not valid JSON"),
        (b"[" * 5000, b"", "not valid JSON"),
        (b"[]", b"", "is a list, not an object"),
        (b'{"a":1,"a":2}', b"", "the key 'a' appears twice"),
        ({"a": F32 | {"dtype": "F33"}}, bytes(8), "'F33'"),
        ({"a": F32 | {"dtype": ["F32"]}}, bytes(8), "has type"),
        ({"a": F32 | {"shape": [3]}}, bytes(8), "needs 12 bytes"),
        ({"a": F32 | {"shape": [-2]}}, bytes(8), "has shape [-2]"),
        ({"a": F32 | {"shape": [2.0]}}, bytes(8), "has shape [2.0]"),
        ({"a": F32 | {"shape": [2**40, 2**40]}}, bytes(8), "no memory holds"),
        ({"a": F32 | {"shape": [0, 2**62, 2**62], "data_offsets": [0, 0]}}, b"", "no memory holds"),
        ({"a": F32 | {"shape": [1] * 65}}, bytes(8), "a list of 65 entries"),
        ({"a": F32 | {"shape": [2**70]}}, bytes(8), "does not fit into 64 bits"),
        (b'{"a":' + b"9" * 5000 + b"}", b"", "does not fit into 64 bits"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, b"", "nested more than 64 levels"),
        (b'{"a":NaN}', b"", "NaN is no JSON number"),
        (b'{"\\u0000":1}', b"", "no text"),
        ({"x" * 5000: 3}, b"", "(5,000 characters)"),
        ({"a": F32 | {"data_offsets": [8, 0]}}, bytes(8), "hold -8"),
        ({"a": F32 | {"data_offsets": [0, 8, 9]}}, bytes(8), "offsets"),
        ({"a": F32 | {"extra": 1}}, bytes(8), "keys dtype, shape, data_offsets"),
        ({"a": 3}, bytes(8), "keys dtype, shape, data_offsets"),
        ({"a": F32, "b": F32}, bytes(8), "overlaps"),
        ({"a": F32, "b": F32 | {"data_offsets": [12, 20]}}, bytes(20), "hole"),
        ({"a": F32}, bytes(9), "no tensor owns"),
        ({"__metadata__": {"a": 1}}, b"", "__metadata__"),
        ({"__metadata__": ["a"]}, b"", "__metadata__"),
    ],
)
def test_a_lying_header_is_refused(path, header, data, said):
    with pytest.raises(CorruptFileError) as caught:
        SafetensorsFile(write(path, header, data))
    assert said in str(caught.value)


@pytest.mark.parametrize(("content", "said"), [(b"", "it has 0 bytes"), (b"\x08\0\0", "it has 3 bytes")])
def test_a_file_too_short_for_a_header_is_refused(path, content, said):
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match=said):
        SafetensorsFile(path)


def test_a_header_length_beyond_the_file_is_refused_without_taking_memory(path):
    write(path, b"{}", length=2**62)
    with pytest.raises(CorruptFileError, match="claims 4,611,686,018,427,387,904 bytes"):
        SafetensorsFile(path)


def test_a_pickle_in_disguise_and_a_git_lfs_pointer_are_told(path):
    path.write_bytes(pickle.dumps({"a": 1}) * 10)
    with pytest.raises(CorruptFileError, match="not a whole safetensors file"):
        SafetensorsFile(path)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n")
    with pytest.raises(CorruptFileError, match="Git LFS pointer"):
        SafetensorsFile(path)


def test_a_missing_file_is_a_missing_file(path):
    with pytest.raises(FileNotFoundError):
        SafetensorsFile(path)


def test_an_empty_state_dict_is_a_valid_file(path):
    safetensors.torch.save_file({}, path)
    assert SafetensorsFile(path).load() == {}


def test_reading_does_not_follow_the_file_when_it_is_replaced(path, tmp_path):
    safetensors.torch.save_file({"a": torch.ones(1 << 17)}, path)
    tensors = SafetensorsFile(path).load()
    other = tmp_path / "other"
    safetensors.torch.save_file({"a": torch.zeros(1 << 17)}, other)
    shutil.move(other, path)
    assert tensors["a"].sum() == 1 << 17
