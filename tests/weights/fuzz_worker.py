"""Loads damaged variants of saved models and prints what came of each: run as a process of its own, so that a crash
is seen as one.

    python -m tests.weights.fuzz_worker ORIGINALS SCRATCH FIRST STOP

One JSON object a line; a line that says "begin" comes before each variant.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

import zoo
from tests.weights.mutations import write_variant
from zoo.errors import ZooError

EXTRA_ADDRESSES = 2 * 2**30
WATCHED = (
    "socket.connect",
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "pickle.find_class",
)


class Watch:
    """Writing outside the scratch folder, network and processes, seen by Python's own audit events."""

    def __init__(self, allowed: list[Path]):
        self.allowed = [str(path.resolve()) for path in allowed]
        self.seen: list[str] = []
        sys.addaudithook(self.hook)

    def hook(self, event: str, args: tuple[Any, ...]) -> None:
        if event in WATCHED:
            self.seen.append(f"{event} {args!r:.200}")
        elif event == "open" and isinstance(args[0], str | bytes) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            path = os.path.realpath(os.fsdecode(args[0]))
            if not path.startswith((*self.allowed, "/dev/", "/proc/")):
                self.seen.append(f"write {path}")


def peak() -> int:
    """High-water mark of the memory in use, in kB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1])
    raise RuntimeError("no VmHWM in /proc/self/status")


def reset_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def equals_file(model: torch.nn.Module, path: Path) -> str:
    """Empty when the model's tensors are those of the file, as the format's own library reads them."""
    try:
        theirs = safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        return f"the format's own library refuses the file: {error}"
    for name, value in model.state_dict().items():
        if name not in theirs:
            if name.endswith("num_batches_tracked"):
                continue
            return f"{name} is not in the file"
        expected = theirs[name].to(value.dtype)
        if value.shape != expected.shape or not torch.equal(value.nan_to_num(), expected.nan_to_num()):
            return f"{name} is not what the file says"
    return ""


def look_at(folder: Path) -> dict[str, Any]:
    before, begin = reset_peak(), time.process_time()
    try:
        try:
            model = zoo.create_model(f"local-dir:{folder}")
        finally:
            cost = {"seconds": time.process_time() - begin, "kB": peak() - before}
    except ZooError as error:
        said = str(error)
        return cost | {"outcome": "refused", "error": type(error).__name__, "said": said[:3000], "length": len(said)}
    except BaseException as error:
        said = "".join(traceback.format_exception(error))
        return cost | {"outcome": "raw", "error": type(error).__name__, "said": said[-3000:]}
    difference = equals_file(model, folder / "model.safetensors")
    return cost | {"outcome": "different" if difference else "loaded", "error": "", "said": difference}


def main(originals: str, scratch: str, first: str, stop: str) -> None:
    warnings.simplefilter("ignore")
    folders = sorted(p for p in Path(originals).iterdir() if p.is_dir())
    for folder in folders:
        zoo.create_model(f"local-dir:{folder}")  # whatever is made once, is made now
    zoo.list_models()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + EXTRA_ADDRESSES,) * 2)
    watch = Watch([Path(scratch), Path(os.environ["HF_HOME"])])
    for number in range(int(first), int(stop)):
        print(json.dumps({"begin": number}), flush=True)
        folder = Path(scratch) / "variant"
        facts = write_variant(folders[number % 10 % len(folders) if number % 10 < 4 else -1], folder, number)
        watch.seen.clear()
        facts |= look_at(folder)
        facts["seen"] = list(watch.seen)
        print(json.dumps(facts), flush=True)
        left = sorted(p.name for p in Path(scratch).iterdir())
        if left != ["variant"] or len(list(folder.iterdir())) != 2:
            print(json.dumps({"number": number, "outcome": "left files", "said": str(left)}), flush=True)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
