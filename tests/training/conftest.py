"""Runs in these tests draw no plots, which would take most of their time; test_plots.py draws."""

from __future__ import annotations

import pytest

from zoo.training import Result


@pytest.fixture(autouse=True)
def _no_plots(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.module.__name__.endswith("test_plots"):
        monkeypatch.setattr(Result, "plot", lambda self: [])
