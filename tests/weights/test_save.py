"""The writer of safetensors: whole files, shared tensors once, memory formats and types kept or refused."""

import hashlib

import pytest
import safetensors.torch
import torch
from torch import nn

from zoo.errors import NonFiniteWeightsError, WeightsError
from zoo.weights.safetensors_file import ALIGNMENT, SafetensorsFile
from zoo.weights.save import save_safetensors


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.out = nn.Linear(4, 5, bias=False)
        self.out.weight = self.embed.weight


def test_the_format_s_own_library_reads_what_we_write(tmp_path):
    tensors = {
        "a.weight": torch.randn(7, 3),
        "t": torch.randn(3, 7).t(),
        "last": torch.randn(1, 4, 3, 3).to(memory_format=torch.channels_last),
        "b": torch.tensor(3),
        "c": torch.randn(9).bfloat16(),
        "e": torch.empty(0, 2),
        "f": torch.tensor([True, False]),
        "g": torch.randn(4, dtype=torch.complex64),
        "h": torch.randn(5).double(),
    }
    digest = save_safetensors(tensors, tmp_path / "x.safetensors", metadata={"note": "ü"})
    assert digest == hashlib.sha256((tmp_path / "x.safetensors").read_bytes()).hexdigest()
    read = safetensors.torch.load_file(tmp_path / "x.safetensors")
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)
    with safetensors.safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "note": "ü"}


def test_shared_tensors_are_written_once_by_the_rule_of_save_model(tmp_path):
    model = Tied()
    save_safetensors(model.state_dict(), tmp_path / "ours.safetensors")
    safetensors.torch.save_model(model, str(tmp_path / "theirs.safetensors"))
    ours, theirs = (SafetensorsFile(tmp_path / f"{n}.safetensors") for n in ("ours", "theirs"))
    assert list(ours.load()) == list(theirs.load()) == ["embed.weight"]
    assert ours.metadata == {"format": "pt", "out.weight": "embed.weight"}
    again = Tied()
    safetensors.torch.load_model(again, tmp_path / "ours.safetensors")
    assert torch.equal(again.out.weight, model.out.weight)


def test_tensors_that_merely_overlap_are_written_in_full(tmp_path):
    base = torch.arange(10.0)
    save_safetensors({"a": base[:6], "b": base[4:], "t": base.view(2, 5).t()}, tmp_path / "x.safetensors")
    read = safetensors.torch.load_file(tmp_path / "x.safetensors")
    assert read["a"].tolist() == [0, 1, 2, 3, 4, 5]
    assert read["b"].tolist() == [4, 5, 6, 7, 8, 9]
    assert torch.equal(read["t"], base.view(2, 5).t())


def test_conjugate_and_expanded_views_are_written_as_the_values_that_they_show(tmp_path):
    z = torch.randn(4, dtype=torch.complex64)
    tensors = {"z": z, "conj": z.conj(), "neg": z.conj().imag, "wide": torch.arange(3.0).expand(4, 3)}
    save_safetensors(tensors, tmp_path / "x.safetensors")
    read = safetensors.torch.load_file(tmp_path / "x.safetensors")
    assert read.keys() == tensors.keys()  # conj shows the memory of z, and not its values
    for name, tensor in tensors.items():
        assert read[name].tolist() == tensor.tolist()
    with pytest.raises(NonFiniteWeightsError, match="'conj'"):
        save_safetensors({"conj": torch.tensor([complex(1, float("inf"))]).conj()}, tmp_path / "y.safetensors")


def test_equal_tensors_give_equal_bytes_in_any_order(tmp_path):
    tensors = {f"n{i}": torch.full((i, 16), float(i)) for i in range(12)}
    first = save_safetensors(tensors, tmp_path / "a")
    assert save_safetensors(dict(reversed(tensors.items())), tmp_path / "b") == first


def test_whole_multiples_of_64_bytes_are_aligned_for_the_mapping(tmp_path):
    tensors = {"b": torch.randn(3), "w": torch.randn(48, 32), "z": torch.randn(17), "v": torch.randn(64)}
    save_safetensors(tensors, tmp_path / "x.safetensors")
    file = SafetensorsFile(tmp_path / "x.safetensors")
    assert file.infos["w"].start % ALIGNMENT == file.infos["v"].start % ALIGNMENT == 0
    assert all(tensor.data_ptr() % ALIGNMENT == 0 for tensor in file.load().values())


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (torch.empty(2, device="meta"), "meta device"),
        (torch.eye(3).to_sparse(), "sparse"),
        (torch.zeros(2, dtype=torch.complex128), "complex128"),
    ],
)
def test_what_the_format_cannot_hold_is_refused_by_name(tmp_path, tensor, said):
    with pytest.raises(WeightsError, match=said) as caught:
        save_safetensors({"layer.weight": tensor}, tmp_path / "x.safetensors")
    assert "'layer.weight'" in str(caught.value)


def test_a_refused_or_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    save_safetensors({"a": torch.ones(3)}, path)
    before = path.read_bytes()
    with pytest.raises(NonFiniteWeightsError, match="'a'"):
        save_safetensors({"a": torch.tensor([1.0, float("nan")])}, path)
    save_safetensors({"a": torch.tensor([1.0, float("nan")])}, tmp_path / "nan.safetensors", check_finite=False)

    class Full(torch.Tensor):
        def contiguous(self, *args, **kwargs):
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        save_safetensors({"a": torch.ones(3), "b": torch.ones(3).as_subclass(Full)}, path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["nan.safetensors", "x.safetensors"]


def test_metadata_may_not_hide_a_shared_tensor(tmp_path):
    shared = torch.ones(3)
    with pytest.raises(WeightsError, match="'b' names both"):
        save_safetensors({"a": shared, "b": shared}, tmp_path / "x", metadata={"b": "note"})
