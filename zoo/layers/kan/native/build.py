"""Compiles the C file of this folder with the system's compiler, once a machine, and loads it."""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

_SOURCE = Path(__file__).with_name("bspline.c")
_FLAGS = ("-O3", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
#: For the processor at hand, in the words of gcc and clang, and at last for any.
_TARGETS = (("-march=native",), ("-mcpu=native",), ())


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled functions. The first call on a machine takes about a second and keeps the result in the cache.

    The cache is `$XDG_CACHE_HOME/zoo/kernels` or `~/.cache/zoo/kernels`; the compiler that in the variable CC, or cc,
    gcc, clang.

    Raises:
        RuntimeError: no compiler, or it fails.
    """
    compiler = _compiler()
    folder = _cache()
    key = hashlib.sha256("\0".join((_SOURCE.read_text(), compiler, *_FLAGS, _processor())).encode()).hexdigest()[:16]
    target = folder / f"bspline-{key}.so"
    if not target.exists():
        _compile(compiler, target)
    return ctypes.CDLL(str(target))


def _compiler() -> str:
    names = [os.environ["CC"]] if os.environ.get("CC") else ["cc", "gcc", "clang"]
    for name in names:
        if found := shutil.which(name):
            return found
    raise RuntimeError(
        f"backend='compiled' needs a C compiler, and there is no {' or '.join(names)}; backend='auto' needs none"
    )


def _processor() -> str:
    """What tells processors apart that a home folder may be shared by."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())


def _cache() -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zoo" / "kernels"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="zoo-kernels-"))  # nothing can be kept: compiled again in every process


def _compile(compiler: str, target: Path) -> None:
    problem = ""
    for processor in _TARGETS:
        handle, name = tempfile.mkstemp(suffix=".so", dir=target.parent)
        os.close(handle)
        try:
            command = [compiler, *_FLAGS, *processor, "-o", name, str(_SOURCE), "-lm"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                os.replace(name, target)
                return
            problem = done.stderr.strip()
        finally:
            Path(name).unlink(missing_ok=True)
    raise RuntimeError(f"{compiler} could not compile {_SOURCE.name}; backend='auto' needs no compiler:\n{problem}")
