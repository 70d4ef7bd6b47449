"""What can be replaced in which backbone: one model of each of timm's files, every kind of part."""

from __future__ import annotations

import logging
import runpy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import timm

DOCS = Path(__file__).parents[2] / "docs"
#: In how many of the files each kind of part can be replaced at least.
TARGETS = {"head": 98, "mlp": 45, "mixer": 30, "pool": 90, "act": 95}
#: One in so many of the files is tried in CI besides these, which every run tries.
IN_CI = 3
VARIED = ("resnet", "vision_transformer", "convnext", "maxxvit")
generate = runpy.run_path(str(DOCS / "generate.py"))
coverage = generate["coverage_module"]()


@pytest.fixture(autouse=True)
def quiet():
    """timm tells of models without a configuration."""
    logger = logging.getLogger("timm.models._builder")
    level = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(level)


@cache
def row(file: str) -> tuple[str, str, dict[str, Any]]:
    (found,) = coverage.rows({file: coverage.BACKBONES[file]})
    return found


def check(file: str) -> None:
    cells = row(file)[2]
    for kind, cell in cells.items():
        if cell.places:
            assert not cell.refusal
            continue
        others = [other for other, found in cells.items() if found.places]
        named = cell.refusal.partition("kinds that can be replaced in it: ")[2].split(", ")
        assert sorted(named) == sorted(others), cell.refusal
        assert f"no {kind} that can be replaced" in cell.refusal
    assert cells["head"].places
    written = generate["table_in"]((DOCS / "composition.md").read_text("utf-8")).splitlines()
    mine = coverage.table([row(file)]).splitlines()
    assert mine[2] in written, "run: python docs/generate.py --coverage"


def test_every_file_of_timm_is_in_the_table():
    homes = {timm.model_entrypoint(name).__module__ for name in timm.list_models()}
    files = {home.removeprefix("timm.models.") for home in homes if home.startswith("timm.models.")}
    assert files == coverage.BACKBONES.keys()
    assert len(files) == 98
    for file, model in coverage.BACKBONES.items():
        assert timm.model_entrypoint(model).__module__ == f"timm.models.{file}"


@pytest.mark.parametrize("file", VARIED)
def test_works_or_is_refused_with_what_can_be_replaced(file):
    check(file)


@pytest.mark.parametrize(
    "file",
    [
        pytest.param(file, marks=pytest.mark.slow if number % IN_CI else pytest.mark.ci_long)
        for number, file in enumerate(file for file in coverage.BACKBONES if file not in VARIED)
    ],
)
def test_the_others_work_or_are_refused(file):
    check(file)


def test_the_page_has_every_file_and_sums_that_meet_the_targets():
    """Each row is compared with what is tried by the tests above, which `make test-all` runs for every file."""
    written = generate["table_in"]((DOCS / "composition.md").read_text("utf-8"))
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in written.splitlines()[2:-1]]
    found = [
        (file, name.strip("`"), dict(zip(coverage.MODULES, map(_cell, cells), strict=True)))
        for file, name, *cells in lines
    ]
    assert {file: name for file, name, _ in found} == coverage.BACKBONES
    assert written == coverage.table(found)
    works = {kind: sum(bool(cells[kind].places) for *_, cells in found) for kind in TARGETS}
    assert all(works[kind] >= wanted for kind, wanted in TARGETS.items()), works


def _cell(text: str) -> Any:
    places, _, left = text.partition(" (+")
    return coverage.Cell(0 if places == "–" else int(places), int(left.rstrip(")") or 0))


def test_a_page_without_marks_is_not_written():
    with pytest.raises(ValueError, match="the page has no <!-- coverage -->"):
        generate["with_table"]("# a page\n", "| a |")
    page = "before\n<!-- coverage -->\nold\n<!-- /coverage -->\nafter\n"
    written = generate["with_table"](page, "| new |")
    assert generate["table_in"](written) == "| new |"
    assert written.startswith("before\n")
    assert written.endswith("<!-- /coverage -->\nafter\n")
