"""Damaged and hostile variants of a saved model, each a function of one number."""

from __future__ import annotations

import copy
import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

DEEP: Any = 1
for _ in range(200):
    DEEP = [DEEP]
#: What takes the place of a value somewhere in a config or a header.
VALUES: list[Callable[[random.Random], Any]] = [
    lambda r: None,
    lambda r: True,
    lambda r: r.choice([0, -1, 1, 3, 7, 2**31, 2**63 - 1, 2**63, 2**64, 10**30, -(10**9), 10**6, 999_983, 10**5]),
    lambda r: r.choice([0.5, -1.5, 1e300, 3.0, 1e-320]),
    lambda r: r.choice(["", "a", "0", "5", "nan", "x" * 100_000, "\0", "a\0b", "\ud800", "é", "🦓"]),
    lambda r: r.choice(["/etc/passwd", "../../x", "..", "C:\\x", "os.system", "zoo.layers.kan:KANHead", "__import__"]),
    lambda r: r.choice(["hf-hub:alice/evil", "local-dir:/", "http://127.0.0.1:9/x", "file:///etc/passwd"]),
    lambda r: r.choice(
        [[], {}, [[]], {"a": {}}, [1, 2, 3], ["a", "b"], [None], {"type": "kan"}, {"type": "os.system"}]
    ),
    lambda r: r.choice([[0] * 100_000, ["a"] * 50_000, {str(i): i for i in range(30_000)}, DEEP]),
    lambda r: r.choice(
        ["test_vit", "resnet10t", "avg", "max", "token", "kan", "zoo_composite", "vit_giant_patch14_224"]
    ),
]
NEW_KEYS = [
    "pretrained", "checkpoint_path", "pretrained_cfg", "cache_dir", "device", "dtype", "features_only", "embed_dim",
    "depth", "depths", "img_size", "num_classes", "in_chans", "block", "layers", "norm_layer", "act_layer", "head",
    "mlp", "base", "url", "file", "custom_load", "hf_hub_id", "source", "requires", "files", "format", "stem_width",
    "width_per_group", "cardinality", "base_width", "output_stride", "aa_layer", "__class__", "self", "a b", "\0",
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all values inside a JSON value."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def change_json(content: Any, r: random.Random) -> Any:
    """One to three changes of a JSON value: replaced, removed, added, exchanged."""
    content = copy.deepcopy(content)
    for _ in range(r.choice([1, 1, 1, 2, 3])):
        options = places(content)
        if not options:
            break
        path = r.choice(options)
        holder = at(content, path[:-1])
        how = r.randrange(8)
        if how < 5:
            holder[path[-1]] = r.choice(VALUES)(r)
        elif how == 5:
            del holder[path[-1]]
        elif how == 6:
            inner = at(content, path)
            target = inner if isinstance(inner, dict) else holder if isinstance(holder, dict) else content
            if isinstance(target, dict):
                target[r.choice(NEW_KEYS)] = r.choice(VALUES)(r)
        else:
            holder[path[-1]] = copy.deepcopy(at(content, r.choice(options)))
    return content


def change_text(text: str, r: random.Random) -> bytes:
    """A JSON text with keys twice, other literals, or damage to its bytes."""
    raw = text.encode("utf-8", "surrogatepass")
    how = r.randrange(7)
    if how == 0:  # every key twice, with another value
        return text.replace('": ', '": 1, "', 1).replace('"1, "', '"', 1).encode()
    if how == 1:
        head, _, tail = text.partition("{")
        return (head + "{" + '"architecture": "resnet18", "num_classes": 9, ' + tail).encode()
    if how == 2:
        numbers = [i for i, c in enumerate(text) if c.isdigit()]
        i = r.choice(numbers) if numbers else 0
        return (
            text[:i] + r.choice(["NaN", "Infinity", "1e999", "-Infinity", "9" * 5000, "0x10"]) + text[i + 1 :]
        ).encode()
    if how == 3:
        mark = r.choice([b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"])
        return mark + (raw if mark[0] == 0xEF else text.encode("utf-16-le", "surrogatepass"))
    if how == 4:
        return b'{"a":' * 100_000 + raw
    return change_bytes(raw, r)


def change_bytes(data: bytes, r: random.Random) -> bytes:
    """Bits flipped, cut short, made longer, or a piece moved."""
    new = bytearray(data)
    how = r.randrange(6)
    if how <= 2 and new:
        for _ in range(r.choice([1, 1, 2, 8])):
            new[r.randrange(len(new))] ^= 1 << r.randrange(8)
    elif how == 3:
        del new[r.randrange(len(new) + 1) :]
    elif how == 4:
        new += r.randbytes(r.choice([1, 8, 4096]))
    else:
        a, b = sorted(r.randrange(len(new) + 1) for _ in range(2))
        new = new[:a] + new[b:]
    return bytes(new)


def change_safetensors(data: bytes, r: random.Random) -> bytes:
    """Damage anywhere, or a header that says something else."""
    length = struct.unpack("<Q", data[:8])[0]
    header, body = data[8 : 8 + length], data[8 + length :]
    how = r.randrange(10)
    if how == 0:
        return change_bytes(data, r)
    if how == 1:  # values only
        new = bytearray(body)
        for _ in range(r.choice([1, 1, 4])):
            new[r.randrange(len(new))] ^= 1 << r.randrange(8)
        return data[: 8 + length] + bytes(new)
    if how == 2:
        return struct.pack("<Q", r.choice([0, 1, 7, length - 1, length + 1, 2**31, 2**62, 2**64 - 1])) + data[8:]
    if how == 3:
        new_header = change_text(header.decode(), r)
        return struct.pack("<Q", len(new_header)) + new_header + body
    content = json.loads(header)
    names = [name for name in content if name != "__metadata__"]
    if how in (4, 5):
        entry = content[r.choice(names)]
        key = r.choice(["dtype", "shape", "data_offsets"])
        if key == "dtype":
            entry[key] = r.choice(
                ["F16", "BF16", "I32", "U32", "F64", "I64", "C64", "F8_E4M3", "BOOL", "U8", "F4", "", 4]
            )
        elif key == "shape":
            shape = entry[key]
            entry[key] = r.choice([shape[::-1], [*shape, 1], [1, *shape], shape[:-1], [-s for s in shape], [2**40] * 4,
                                   [0, *shape], [1] * 100, [float(s) for s in shape], [True, *shape]])  # fmt: skip
        else:
            a, b = entry[key]
            entry[key] = r.choice([[b, a], [a + 4, b + 4], [a, b - 4], [0, 0], [a, 2**63], [-4, b], [a], [a, b, b]])
    elif how == 6:
        first, second = r.choice(names), r.choice(names)
        content[first], content[second] = content[second], content[first]
    elif how == 7:
        content[r.choice(["x", names[0] + "x", "../x", "\0", "model", "", "a" * 300])] = content.pop(r.choice(names))
    elif how == 8:
        content["__metadata__"] = r.choice([{names[0]: names[-1]}, {"a": 1}, [], {"x": "y" * 10_000}, DEEP, "a"])
    else:
        content = change_json(content, r)
    new_header = json.dumps(content).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(new_header)) + new_header + body


def write_variant(original: Path, target: Path, number: int) -> dict[str, Any]:
    """Write variant `number` of a saved model to a new folder; says what was changed."""
    r = random.Random(f"variant {number}")
    config = json.loads((original / "config.json").read_text())
    weights = (original / "model.safetensors").read_bytes()
    kind = r.choice(["config", "arguments", "config text", "weights with sums", "weights", "weights"])
    text = json.dumps(config, indent=1).encode()
    if kind == "config":
        text = json.dumps(change_json(config, r)).encode()
    elif kind == "arguments":
        for _ in range(r.choice([1, 1, 2])):
            config["model_args"][r.choice(NEW_KEYS)] = r.choice(VALUES)(r)
        text = json.dumps(config).encode()
    elif kind == "config text":
        text = change_text(json.dumps(config), r)
    else:
        weights = change_safetensors(weights, r)
        if kind == "weights":
            del config["zoo"]["files"]
            text = json.dumps(config).encode()
    target.mkdir()
    (target / "config.json").write_bytes(text)
    (target / "model.safetensors").write_bytes(weights)
    same = weights == (original / "model.safetensors").read_bytes()
    return {"number": number, "kind": kind, "weights changed": not same}
