"""Which files of a stranger's repository may be laid into a folder: no code, and no name that leads elsewhere."""

from __future__ import annotations

import fnmatch
import warnings
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from zoo.errors import FileNotInRepoError
from zoo.weights.config_checks import is_safe_name
from zoo.weights.strict_json import shorten

_PICKLES = (
    ".bin",
    ".pth",
    ".pt",
    ".ckpt",
    ".pkl",
    ".pickle",
    ".dill",
    ".joblib",
    ".tar",
    ".npy",
    ".npz",
    ".h5",
    ".keras",
)
_CODE = (".py", ".pyc", ".pyd", ".so", ".dll", ".dylib", ".exe", ".sh", ".bat", ".cmd", ".ps1", ".ipynb", ".js", ".jar")


def is_unsafe(name: str) -> bool:
    """Whether a file can hold code: pickles (and archives of them), scripts, programs."""
    return name.lower().endswith(_PICKLES + _CODE)


def harmless(names: Iterable[str], taken: Sequence[str], only: Sequence[str], where: str) -> list[str]:
    """Files beside config and weights that can be laid into a folder on any system, without code."""
    kept: list[str] = []
    used = {name.casefold() for name in taken}
    folders = {str(p) for name in taken for p in PurePosixPath(name.casefold()).parents}
    odd: list[str] = []
    for name in sorted(set(names) - set(taken)):
        if not is_safe_name(name):
            odd.append(name)
            continue
        if is_unsafe(name) or any(part.startswith(".") for part in name.split("/")):
            continue
        if only and not any(fnmatch.fnmatchcase(name, pattern) for pattern in only):
            continue
        folded = PurePosixPath(name.casefold())
        parents = {str(p) for p in folded.parents}
        if str(folded) in used | folders or parents & used:
            odd.append(name)
            continue
        used.add(str(folded))
        folders |= parents
        kept.append(name)
    if odd:
        shown = ", ".join(shorten(n) for n in odd[:5])
        warnings.warn(
            f"{where}: files left out, as their names leave the folder or differ from others only by case: {shown}",
            stacklevel=6,
        )
    for pattern in only:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in (*kept, *taken)):
            raise FileNotInRepoError(f"no file of {where} that may be taken matches {pattern!r}; it has {few(names)}")
    return kept


def few(names: Iterable[str], limit: int = 12) -> str:
    listed = [shorten(name)[1:-1] for name in sorted(names)]
    return ", ".join(listed[:limit]) + (f" and {len(listed) - limit} more" if len(listed) > limit else "")
