"""check_module holds sound modules for sound, and finds what is broken in every broken one."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

import zoo
from tests.testing.broken import BROKEN, TOO
from tests.testing.sound import SOUND, Head, Memory
from zoo.errors import UnknownModuleError
from zoo.testing import check_module, checks_of


@pytest.mark.parametrize("kind", SOUND)
def test_a_sound_module_passes(kind):
    report = check_module(kind, SOUND[kind], compiler="aot_eager")
    assert set(report.passed) | set(report.skipped) == set(checks_of(kind))
    assert all(reason.startswith("does not apply") for reason in report.skipped.values()), report.skipped


@pytest.mark.parametrize(("check", "kind", "cls", "words"), BROKEN, ids=[c.__name__ for _, _, c, _ in BROKEN])
def test_a_broken_module_fails_that_check_alone(check, kind, cls, words):
    with pytest.raises(AssertionError) as caught:
        check_module(kind, cls, compiler="aot_eager")
    head, *lines = str(caught.value).splitlines()
    assert head == f"{cls.__qualname__} breaks the contract of the kind {kind!r}:"
    failed = dict(line.strip().split(": ", 1) for line in lines if not line.startswith("  ("))
    assert set(failed) == {check} | TOO.get(cls, set())
    assert re.search(words, failed[check]), failed[check]


def test_every_check_has_a_module_that_fails_it():
    assert {check for kind in SOUND for check in checks_of(kind)} == {check for check, *_ in BROKEN}


def test_an_exception_skips_its_check_and_is_reported():
    check, kind, cls, _ = next(row for row in BROKEN if row[0] == "export")
    report = check_module(kind, cls, exceptions={check: "exports twice of it"}, compiler="aot_eager")
    assert report.skipped["export"] == "exports twice of it"
    assert "export" not in report.passed
    text = str(report).splitlines()
    assert text[0] == "ExportsSomethingElse keeps the contract of the kind 'head'"
    assert any(line.split() == ["compile", "holds"] for line in text)
    assert any(line.split(maxsplit=1) == ["export", "exports twice of it"] for line in text)


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"unknown check 'exprot'; did you mean 'export'"):
        check_module("head", Head, exceptions={"exprot": "why"})
    with pytest.raises(ValueError, match="the exception 'export' needs a reason, got ' '"):
        check_module("head", Head, exceptions={"export": " "})
    with pytest.raises(ValueError, match=r"unknown size 'in_feature'; did you mean 'in_features'"):
        check_module("head", Head, sizes={"in_feature": 3})
    with pytest.raises(UnknownModuleError, match=r"unknown kind 'heads'; did you mean 'head'"):
        check_module("heads", Head)
    with pytest.raises(UnknownModuleError, match=r"unknown module 'head/lineal'; did you mean 'head/linear'"):
        check_module("head/lineal")
    with pytest.raises(TypeError, match="names the module"):
        check_module("head/linear", Head)
    with pytest.raises(TypeError, match="got None"):
        check_module("head")
    with pytest.raises(TypeError, match=r"takes the kind first.*did you mean check_module\('head', Head\)\?"):
        check_module(Head, "head")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"takes the kind first.*did you mean check_module\('head', Head\)\?"):
        check_module(Head)  # type: ignore[arg-type]
    with pytest.raises(UnknownModuleError, match=r"did you mean .*'mlp/kan'.*'head/kan'"):
        check_module("kan")
    with pytest.raises(UnknownModuleError, match=r"unknown kind 'heads'; did you mean 'head'"):
        check_module("heads")
    with pytest.raises(ValueError, match="no call for the kind 'memory': pass example="):
        check_module("memory", Memory)
    with pytest.raises(ValueError, match="give sizes, not an example"):
        check_module("head", Head, example=lambda rows: torch.randn(rows, 6))


def test_a_kind_without_a_call_is_checked_on_an_example():
    report = check_module(
        "memory",
        Memory,
        options={"width": 3},
        example=lambda n: (torch.randn(n, 3), torch.ones(n, 3)),
        compiler="eager",
    )
    assert {"gradient", "gradcheck", "compile", "export", "state_dict"} <= set(report.passed)
    with pytest.raises(AssertionError, match=r"(?s)breaks the contract of the kind 'localizer'.*call: RuntimeError"):
        check_module("localizer", Memory, example=lambda n: (torch.randn(n, 5), torch.ones(n, 5)))


def test_sizes_and_options_reach_the_module():
    seen = []

    def build(in_features, out_features, **kwargs):
        seen.append((in_features, out_features, kwargs.pop("flavour", None)))
        return Head(in_features, out_features, **kwargs)

    check_module("head", build, sizes={"in_features": 9}, options={"flavour": "x"}, compiler="eager")
    assert seen[0] == (9, 4, None)  # the sizes alone
    assert set(seen[1:]) == {(9, 4, "x"), (9, 1, "x")}


def test_catalogue_and_class_must_agree_on_the_layout():
    class Mine(zoo.layers.Attention):
        """Mine."""

    zoo.register_module("mixer", "told_wrongly", layout="NHWC")(Mine)
    try:
        with pytest.raises(AssertionError, match=r"class and catalogue disagree.*NLC.*NHWC"):
            check_module("mixer", "told_wrongly")
    finally:
        zoo.registry.default_registry()._entries.pop("mixer/told_wrongly")


def test_leaves_the_random_state_alone():
    torch.manual_seed(3)
    wanted = torch.rand(4)
    torch.manual_seed(3)
    check_module("act", nn.ReLU, compiler="eager")
    assert torch.equal(torch.rand(4), wanted)


def test_all_failures_are_told_at_once():
    class Bad(Head):
        def __init__(self, in_features, out_features, *, device=None, dtype=None, **kwargs):
            super().__init__(in_features, out_features, device=device, dtype=dtype)

        def forward(self, x):
            return super().forward(x.detach())

    with pytest.raises(AssertionError) as caught:
        check_module("head", Bad, compiler="eager")
    text = str(caught.value)
    assert all(f"  {check}: " in text for check in ("unknown_keyword", "gradient", "gradcheck", "pickle")), text
    assert "no gradient reaches input 0" in text
