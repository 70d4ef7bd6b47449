"""PCSR on CARN: memory for a large image, and a picture of 1920 x 1080 enlarged to 8K.

`python -m benchmarks.pcsr_memory` prints Markdown; with `image` or `8k` behind it, one of its parts.
"""

import json
import os
import subprocess
import sys
import time

from benchmarks._measure import Job, compare, table

SIDE = 512
WAYS = {"k = 0": {}, "ADM": {"policy": "adm"}, "target 0.6": {"policy": "target", "target": 0.6}}


def image() -> None:
    """An image as a whole."""
    jobs = {
        side: Job("benchmarks.pcsr:call", {"side": side, "name": "carn", "mode": "k = 0", "pixels": SIDE})
        for side in ("ours", "official")
    }
    found = compare(jobs, 2, 0)
    ours, official = found["ours"], found["official"]
    print(f"`forward` of {SIDE} x {SIDE} pixels at k = 0, best of two calls:\n")
    rows = [[side, f"{m.reuse_ms / 1e3:.1f}", f"{m.peak_mb:.0f}"] for side, m in found.items()]
    print(table(["side", "s", "peak MB"], rows))
    print(
        f"\n{official.peak_mb / ours.peak_mb:.1f} times less memory, {official.reuse_ms / ours.reuse_ms:.2f} times "
        f"faster (default malloc {official.default_ms / ours.default_ms:.2f})."
    )


def eight_k() -> None:
    """A picture in tiles, each way in a process of its own."""
    rows = []
    for way in WAYS:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "benchmarks.pcsr_memory", "upscale", way]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
        found = json.loads(done.stdout)
        rows.append([way, f"{found['seconds']:.0f}", f"{found['before']:.0f}", f"{found['peak']:.0f}", found["heavy"]])
    print("\n`upscale` of 1920 x 1080 to 7680 x 4320 pixels in uint8, tiles and memory left to it, one call each:\n")
    print(table(["classes", "CPU s", "process before, MB", "its peak, MB", "heavy pixels"], rows))


def upscale(way: str) -> None:
    """What one of these processes does."""
    import torch

    from benchmarks._measure import _memory
    from benchmarks.pcsr import network, picture

    torch.set_num_threads(1)
    model, _ = network("carn", 128)
    small = picture(1920, torch.Generator().manual_seed(1))[0, :, :1080]
    frame = (small.clamp(0, 1) * 255).to(torch.uint8)
    before, begin = _memory("VmRSS"), time.process_time()
    result, info = model.upscale(frame, return_info=True, **WAYS[way])
    assert result.shape == (4320, 7680, 3)
    seconds, heavy = time.process_time() - begin, float(info.fractions[0, 1])
    numbers = {"seconds": seconds, "before": before / 1e6, "peak": _memory("VmHWM") / 1e6, "heavy": f"{heavy:.0%}"}
    print(json.dumps(numbers))


def main() -> None:
    asked = sys.argv[1:]
    if asked[:1] == ["upscale"]:
        upscale(asked[1])
        return
    if not asked or "image" in asked:
        image()
    if not asked or "8k" in asked:
        eight_k()


if __name__ == "__main__":
    main()
