"""A safetensors file, checked before any memory is taken, then mapped.

The header is read and compared with the size of the file by our own code: a truncated, overlapping or lying file is
refused while nothing but its header is in memory. The tensors are views of one private (copy-on-write) mapping, so
reading a file costs neither time nor memory until the values are used.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from zoo.errors import CorruptFileError
from zoo.weights.strict_json import parse_json, shorten

DTYPES: dict[str, torch.dtype] = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "U16": torch.uint16,
    "I16": torch.int16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "U32": torch.uint32,
    "I32": torch.int32,
    "F32": torch.float32,
    "U64": torch.uint64,
    "I64": torch.int64,
    "F64": torch.float64,
    "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
_MAX_HEADER = 100_000_000  # the format's own limit
# Matrix-vector kernels choose their order of summation by the alignment of the memory, so a product with a mapped
# matrix may differ in the last bit from one with a copy in torch's own, 64-byte aligned memory. Our writer aligns what
# it writes, as far as sizes allow; what cannot be aligned, and small tensors in files of other writers, are copied,
# which costs next to nothing.
ALIGNMENT = 64
_SMALL = 1 << 18
_MAX_DIMS = 64  # torch's own limit
_MAX_NUMBER = 2**63 - 1
_AGAIN = "delete it and fetch or write it again"


@dataclass(frozen=True)
class TensorInfo:
    """What the header says of one tensor; `start` and `stop` count from the beginning of the file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    stop: int


class SafetensorsFile:
    """The validated header of a safetensors file, and its tensors on demand.

    Args:
        path: the file.

    Attributes:
        path: the file.
        size: its size in bytes.
        metadata: the text metadata of its header.
        infos: name -> `TensorInfo`, in the order of the bytes.

    Raises:
        CorruptFileError: the header is not readable, or does not describe exactly the bytes that are there; the
            message gives expected and real size where they differ.
        FileNotFoundError: there is no such file.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self.size = self.path.stat().st_size
        header, data_start = self._read_header()
        self.metadata = self._take_metadata(header)
        infos = {name: self._info(name, entry, data_start) for name, entry in header.items()}
        self.infos = dict(sorted(infos.items(), key=lambda item: (item[1].start, item[1].stop)))
        self._check_layout(data_start)

    def _bad(self, what: str) -> CorruptFileError:
        return CorruptFileError(f"{self.path} is not a whole safetensors file: {what}; {_AGAIN}")

    def _read_header(self) -> tuple[dict[str, Any], int]:
        with open(self.path, "rb") as file:
            start = file.read(8)
            if len(start) < 8:
                raise self._bad(f"it has {self.size} bytes, the shortest possible file has 10")
            if start == b"version ":
                raise CorruptFileError(
                    f"{self.path} is a Git LFS pointer, not the weights ({self.size} bytes); fetch the real file "
                    f"(git lfs pull, or zoo pull)"
                )
            length = int.from_bytes(start, "little")
            if length > _MAX_HEADER or length > self.size - 8:
                raise self._bad(
                    f"its header claims {length:,} bytes (expected a file of at least {length + 8:,} bytes, "
                    f"real size {self.size:,})"
                )
            raw = file.read(length)
        try:
            header = parse_json(raw.decode("utf-8"))
        except ValueError as error:
            raise self._bad(f"its header is not valid JSON ({error})") from error
        if not isinstance(header, dict):
            raise self._bad(f"its header is a {type(header).__name__}, not an object")
        return header, 8 + length

    def _take_metadata(self, header: dict[str, Any]) -> dict[str, str]:
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
            raise self._bad("its __metadata__ is not a map of texts")
        return metadata

    def _info(self, name: str, entry: Any, data_start: int) -> TensorInfo:
        if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
            raise self._bad(f"the entry of tensor {shorten(name)} has not the keys dtype, shape, data_offsets")
        name = name if len(name) < 200 else f"{name[:200]}…"
        shape, offsets = entry["shape"], entry["data_offsets"]

        def counts(value: Any) -> bool:
            return isinstance(value, list) and all(type(v) is int and 0 <= v <= _MAX_NUMBER for v in value)

        if not counts(shape) or not counts(offsets) or len(offsets) != 2 or len(shape) > _MAX_DIMS:
            raise self._bad(f"tensor {name!r} has shape {shorten(shape)} and offsets {shorten(offsets)}")
        dtype = DTYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
        if dtype is None:
            raise self._bad(
                f"tensor {name!r} has type {shorten(entry['dtype'])}, which is not one of {', '.join(sorted(DTYPES))}"
            )
        if math.prod(max(side, 1) for side in shape) * dtype.itemsize > _MAX_NUMBER:
            raise self._bad(f"tensor {name!r} has shape {shape}, which no memory holds")
        expected = math.prod(shape) * dtype.itemsize
        if offsets[1] - offsets[0] != expected:
            raise self._bad(
                f"tensor {name!r} of shape {shape} and type {entry['dtype']} needs {expected:,} bytes, its offsets "
                f"{offsets} hold {offsets[1] - offsets[0]:,}"
            )
        return TensorInfo(dtype, tuple(shape), data_start + offsets[0], data_start + offsets[1])

    def _check_layout(self, data_start: int) -> None:
        end = data_start
        for name, info in self.infos.items():
            if info.start != end:
                kind = "overlaps the one before it" if info.start < end else "leaves a hole before it"
                raise self._bad(f"tensor {name!r} {kind} (starts at byte {info.start:,}, expected {end:,})")
            end = info.stop
        if end != self.size:
            kind = "truncated" if end > self.size else "followed by bytes that no tensor owns"
            raise self._bad(f"{kind} (expected size {end:,} bytes, real size {self.size:,})")

    def load(self, *, copy: bool = False) -> dict[str, torch.Tensor]:
        """The tensors.

        Args:
            copy: read the values now into memory of their own. Default: map the file; pages are read when touched,
                writing to a tensor never changes the file, and the file must stay as it is while the tensors live
                (choose `copy=True` on network file systems and for files that others overwrite in place).

        Returns:
            name -> tensor, each with a storage of exactly its own size.
        """
        # A slice of the mapping is a storage of its own: copying or pickling one tensor does not drag the file along.
        storage = torch.UntypedStorage.from_file(str(self.path), False, self.size)
        return {name: self._tensor(storage, info, copy) for name, info in self.infos.items()}

    @staticmethod
    def _tensor(storage: Any, info: TensorInfo, copy: bool) -> torch.Tensor:
        if info.start == info.stop:
            return torch.empty(info.shape, dtype=info.dtype)
        piece: Any = storage[info.start : info.stop]
        if info.start % info.dtype.itemsize:
            # A value that straddles its natural boundary may not be read in place on every machine.
            raw = torch.empty(0, dtype=torch.uint8).set_(piece).clone()
            return raw.view(info.dtype).view(info.shape)
        tensor = torch.empty(0, dtype=info.dtype).set_(piece).view(info.shape)
        size = info.stop - info.start
        return tensor.clone() if copy or (info.start % ALIGNMENT and (size < _SMALL or size % ALIGNMENT)) else tensor
