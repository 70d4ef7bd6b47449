"""The house rules that a machine can hold: imports run one way, packaging lists every package, nothing is pickled."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: Bottom first: a module may import what stands before it (and its own group).
ORDER = [
    "errors",
    "naming",
    "sizes",
    "files",
    "_version",
    "registry",
    "eager",
    "device",
    "weight_cache",
    "quantum",
    "karyotype",
    "layers",
    "models",
    "weights",
    "composition",
    "sources",
    "factory",
    "stitching",
    "publish",
    "exporting",
    "verifying",
    "training",
    "pictures",
    "upscaling",
    "tabular",
    "explain",
    "serving",
    "testing",
    "demo",
    "cli",
]


def _group(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def _imports(path: Path) -> list[tuple[str, bool]]:
    """Modules that a file imports, and whether the import runs when the file is imported."""
    tree = ast.parse(path.read_text())
    nested = {
        id(n)
        for f in ast.walk(tree)
        if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for n in ast.walk(f)
    }
    found = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [f"{node.module}.{a.name}" if node.module == "zoo" else node.module for a in node.names]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        found += [(name, id(node) not in nested) for name in names]
    return found


def test_imports_run_one_way():
    wrong = []
    for path in (ROOT / "zoo").rglob("*.py"):
        relative = path.relative_to(ROOT / "zoo")
        own = relative.parts[0].removesuffix(".py")
        if own in ("__init__", "__main__"):
            continue
        for name, _ in _imports(path):
            group = _group(name) if name.startswith("zoo.") else ""
            if group and ORDER.index(group) > ORDER.index(own):
                wrong.append(f"zoo/{relative} imports {name}")
    assert not wrong, wrong


def test_cheap_modules_import_nothing_heavy():
    heavy = {"torch", "timm", "huggingface_hub", "matplotlib", "accelerate", "sklearn", "torchmetrics", "safetensors"}
    wrong = []
    files = [ROOT / "zoo" / f"{n}.py" for n in ("__init__", "errors", "naming", "files")]
    for path in [*files, *(ROOT / "zoo/registry").glob("*.py"), *(ROOT / "zoo/cli").glob("*.py")]:
        wrong += [
            f"{path.name}: {name}" for name, at_import in _imports(path) if at_import and name.split(".")[0] in heavy
        ]
    assert not wrong, wrong


def test_packaging_lists_every_package():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    real = {".".join(p.parent.relative_to(ROOT).parts) for p in (ROOT / "zoo").rglob("__init__.py")}
    assert listed == real | {"zoo.registry.data", "zoo.weights.data"}


def test_files_are_short():
    long = {
        str(p.relative_to(ROOT)): n
        for p in (ROOT / "zoo").rglob("*.py")
        if (n := len(p.read_text().splitlines())) > 500
    }
    assert not long, long


def test_nothing_writes_pickles():
    """No `torch.save`, `pickle.dump` or unsafe `torch.load` anywhere in the package."""
    wrong = []
    for path in (ROOT / "zoo").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            if name in ("torch.save", "pickle.dump", "pickle.dumps", "pickle.load", "pickle.loads"):
                wrong.append(f"{path.name}: {name}")
            if name == "torch.load" and not any(
                k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords
            ):
                wrong.append(f"{path.name}: torch.load without weights_only=True")
    assert not wrong, wrong
