"""Fetches timm's suite, which only its source distribution carries, and runs it in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path

import timm

HERE = Path(__file__).parent


class SuiteUnavailableError(RuntimeError):
    """The source distribution cannot be had here."""


@dataclass
class Result:
    """What a run came to: names of tests by outcome, and its output."""

    passed: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    output: str = ""


def fetch_suite(cache: Path) -> Path:
    """Folder of timm's tests, of the installed version; downloaded with pip when `cache` does not have it yet.

    Raises:
        SuiteUnavailableError: pip cannot download it.
    """
    folder = cache / f"timm-{timm.__version__}" / "tests"
    if folder.is_dir():
        return folder
    wanted = f"timm=={timm.__version__}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", wanted]
    done = subprocess.run([*command, "--dest", str(cache)], capture_output=True, text=True, check=False)
    archives = list(cache.glob(f"timm-{timm.__version__}.tar.gz"))
    if not archives:
        raise SuiteUnavailableError(f"{wanted} cannot be downloaded as source: {done.stderr.strip()[-500:]}")
    with tarfile.open(archives[0]) as archive:
        members = [m for m in archive.getmembers() if m.name.startswith(f"timm-{timm.__version__}/tests/")]
        archive.extractall(cache, members=members, filter="data")
    return folder


def run_suite(
    suite: Path,
    report: Path,
    models: list[str],
    tokens: list[str] | None = None,
    *,
    without: str = "",
    limit: int | None = None,
) -> Result:
    """Run `test_models.py` on `models`.

    Args:
        suite: folder of timm's tests.
        report: where the JUnit report goes.
        models: names.
        tokens: patterns of those whose features are tokens.
        without: words, "one or another"; tests with one in their names are left out.
        limit: seconds that a test may take, of which timm has 120 to 360 for models of usual sizes.
    """
    environment = {k: v for k, v in os.environ.items() if k not in ("GITHUB_ACTIONS", "PYTEST_ADDOPTS")}
    environment |= {
        "ZOO_TIMM_SUITE_MODELS": ",".join(models),
        "ZOO_TIMM_SUITE_TOKENS": ",".join(tokens or []),
        "PYTHONPATH": os.pathsep.join(
            [str(HERE), str(HERE.parents[1]), *filter(None, [environment.get("PYTHONPATH")])]
        ),
    }
    environment |= {} if limit is None else {"TIMEOUT": str(limit)}
    command = [sys.executable, "-m", "pytest", "-p", "timm_suite_plugin", "-p", "no:cacheprovider", "-q"]
    command += ["--rootdir", str(suite), "-c", os.devnull, "--junitxml", str(report), "test_models.py"]
    command += ["-k", f"not ({without})"] if without else []
    done = subprocess.run(command, cwd=suite, env=environment, capture_output=True, text=True, check=False)
    result = Result(output=done.stdout + done.stderr)
    if report.is_file():
        for case in ET.parse(report).getroot().iter("testcase"):
            kinds = {child.tag for child in case}
            outcome = result.failed if kinds & {"failure", "error"} else result.skipped if "skipped" in kinds else None
            (result.passed if outcome is None else outcome).append(case.attrib["name"])
    return result
