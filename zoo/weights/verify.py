"""The bytes and the values of a weights file: SHA-256 and finiteness, in one pass, remembered.

The pass reads blocks that stay in the processor's cache, so it takes no memory worth naming. Its results are
remembered beside the Hub cache by path, size, modification and change time, and inode: an unchanged file is not read
twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import time
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import torch

from zoo.errors import ChecksumError, CorruptFileError, NonFiniteWeightsError
from zoo.files import write_bytes
from zoo.weights.safetensors_file import SafetensorsFile, TensorInfo

_BLOCK = 1 << 20
_REMEMBERED = 2000  # files; the memo stays small enough to be read in a millisecond
_SETTLED = 0.05  # seconds after which another write to the file is bound to show in its time stamp


def memo_path() -> Path:
    """Where results are remembered: `zoo/checked.json` in the Hub client's home (`HF_HOME`)."""
    home = os.environ.get("HF_HOME")
    if not home:
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        home = os.path.join(cache, "huggingface")
    return Path(os.path.expanduser(home)) / "zoo" / "checked.json"


def _stamp(path: Path) -> tuple[str, list[int]]:
    real = path.resolve()
    stat = real.stat()
    return str(real), [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _read_memo() -> dict[str, Any]:
    try:
        memo = json.loads(memo_path().read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return memo if isinstance(memo, dict) else {}


def _recall(path: Path) -> dict[str, Any]:
    key, stamp = _stamp(path)
    entry = _read_memo().get(key)
    return entry if isinstance(entry, dict) and entry.get("stamp") == stamp else {}


def _remember(path: Path, stamp: list[int], **facts: Any) -> None:
    """Best effort: a cache that cannot be written only costs the next reader a second pass."""
    key, now = _stamp(path)
    if now != stamp or time.time() - max(stamp[1], stamp[2]) / 1e9 < _SETTLED:
        return
    memo = _read_memo()
    old = memo.pop(key, {})
    facts = {**(old if old.get("stamp") == stamp else {}), **facts, "stamp": stamp}
    memo = dict([*memo.items(), (key, facts)][-_REMEMBERED:])
    with contextlib.suppress(OSError):
        write_bytes(memo_path(), json.dumps(memo).encode())


def sha256_of(path: str | os.PathLike[str]) -> str:
    """SHA-256 of any file in hex, remembered for the unchanged file."""
    path = Path(path)
    known = _recall(path).get("sha256")
    if isinstance(known, str):
        return known
    _, stamp = _stamp(path)
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    _remember(path, stamp, sha256=digest)
    return digest


def git_sum_of(path: str | os.PathLike[str]) -> str:
    """git's SHA-1 of a file, by which the Hub names small files."""
    data = Path(path).read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def check_sha256(path: str | os.PathLike[str], expected: str, origin: str = "") -> None:
    """Refuse a file whose bytes are not the recorded ones.

    Raises:
        ChecksumError: naming the file, the recorded and the real sum.
    """
    real = sha256_of(path)
    if real != expected.lower():
        raise _checksum_error(path, expected, real, origin)


def _checksum_error(path: str | os.PathLike[str], expected: str, real: str, origin: str) -> ChecksumError:
    where = f" (of {origin})" if origin not in ("", os.fspath(path)) else ""
    return ChecksumError(
        f"{os.fspath(path)}{where} is not the recorded file: expected SHA-256 {expected}, real {real}; "
        f"delete it and fetch it again"
    )


@dataclass(frozen=True)
class Scan:
    """Result of one pass over a file: its SHA-256 when asked for, and the first tensor that is not finite."""

    sha256: str | None
    non_finite: str | None


def _finite(block: torch.Tensor, scalar: bool = False) -> bool:
    """Whether all values are finite. A finite sum proves it; only another sum makes a second look necessary.

    A lone number may be infinite: models keep open bounds in such buffers (timm's gemma4_vit does).
    """
    if scalar:
        return not bool(block.isnan().any())
    if block.is_complex():
        block = torch.view_as_real(block)
    if block.dtype.itemsize == 1:
        block = block.float()
    wide = torch.float64 if block.dtype == torch.float64 else torch.float32
    return math.isfinite(block.sum(dtype=wide)) or bool(torch.isfinite(block).all())


def first_non_finite(tensors: dict[str, torch.Tensor]) -> str | None:
    """Name of the first tensor in memory that holds NaN or infinity, else None."""
    for name, tensor in tensors.items():
        has_values = tensor.numel() and tensor.device.type != "meta"
        if not has_values or not (tensor.is_floating_point() or tensor.is_complex()):
            continue
        parts = tensor.detach().flatten().split(_BLOCK)
        if not all(_finite(part, scalar=tensor.ndim == 0) for part in parts):
            return name
    return None


def scan(file: SafetensorsFile, *, finite: bool = True, sha256: bool = False) -> Scan:
    """Read the file once, in small blocks, for its sum and for values that are not finite.

    Args:
        file: a file with a validated header.
        finite: look for NaN and infinity in every tensor of floating or complex type.
        sha256: compute the SHA-256 of the whole file.
    """
    known = _recall(file.path)
    digest: str | None = known.get("sha256") if sha256 else None
    if (digest or not sha256) and (known.get("finite") or not finite):
        return Scan(digest, None)
    _, stamp = _stamp(file.path)
    hasher = hashlib.sha256() if sha256 else None
    buffer = bytearray(_BLOCK)
    bad: str | None = None
    with open(file.path, "rb") as stream:
        first = next(iter(file.infos.values())).start if file.infos else file.size
        _feed(stream, first, buffer, file, hasher, None)
        for name, info in file.infos.items():
            looked_at = info if finite and not bad and (info.dtype.is_floating_point or info.dtype.is_complex) else None
            if not _feed(stream, info.stop - info.start, buffer, file, hasher, looked_at):
                bad = name
                if hasher is None:
                    break
    facts: dict[str, Any] = {}
    if hasher is not None:
        facts["sha256"] = digest = hasher.hexdigest()
    if finite:
        facts["finite"] = bad is None
    _remember(file.path, stamp, **facts)
    return Scan(digest, bad)


def _feed(
    stream: BufferedReader, count: int, buffer: bytearray, file: SafetensorsFile, hasher: Any, info: TensorInfo | None
) -> bool:
    """Take the next `count` bytes through the hasher and the test of finiteness; False when a value is not finite."""
    if hasher is None and info is None:
        stream.seek(count, os.SEEK_CUR)
        return True
    view = memoryview(buffer)
    good = True
    while count:
        want = min(count, _BLOCK)
        if stream.readinto(view[:want]) != want:
            raise CorruptFileError(f"{file.path} became shorter while it was read; delete it and fetch it again")
        if hasher is not None:
            hasher.update(view[:want])
        if info is not None and good:
            block = torch.frombuffer(buffer, dtype=info.dtype, count=want // info.dtype.itemsize)
            good = _finite(block, scalar=not info.shape)
        count -= want
    return good


def check_file(
    file: SafetensorsFile, *, check_finite: bool = True, sha256: str | None = None, origin: str = ""
) -> None:
    """Check the values and, where a sum is recorded, the bytes of a file.

    Raises:
        ChecksumError: the bytes differ from the recorded SHA-256.
        NonFiniteWeightsError: a tensor holds NaN or infinity; names the first.
    """
    if not check_finite and sha256 is None:
        return
    result = scan(file, finite=check_finite, sha256=sha256 is not None)
    if sha256 is not None and result.sha256 != sha256.lower():
        raise _checksum_error(file.path, sha256, str(result.sha256), origin)
    if result.non_finite is not None:
        raise non_finite(result.non_finite, origin or str(file.path))


def non_finite(name: str, origin: str) -> NonFiniteWeightsError:
    """The error for a tensor with NaN or infinity."""
    return NonFiniteWeightsError(
        f"tensor {name!r} of {origin} holds NaN or infinite values: the checkpoint is broken or its training diverged; "
        f"check_finite=False loads it all the same"
    )
