"""The checkpoints that ship: their files are what the manifest says, and reach the metric that it states."""

from __future__ import annotations

import pytest

import zoo
from zoo.files import sha256_file
from zoo.registry import weights_entry

EMBEDDED = [n for n in zoo.list_pretrained() if weights_entry(n).path is not None]


def test_there_is_one_for_every_family():
    entries = [zoo.registry.model_entry(n) for n in zoo.list_models()]
    # A composition has the weights of its base; a further paper of a family is a part of it.
    families = {e.family.part_of or e.family.name for e in entries if e.family.paper}
    assert {zoo.registry.model_entry(n).family.name for n in EMBEDDED} == families


@pytest.mark.parametrize("name", EMBEDDED)
def test_file(name):
    row = weights_entry(name)
    assert row.path.stat().st_size == row.size
    assert sha256_file(row.path) == row.sha256


def test_digits_reach_what_the_manifest_states():
    row = weights_entry("medvit2_kan_nano.digits")
    measured = zoo.evaluate("medvit2_kan_nano.digits", "digits", split=row.metrics["split"], progress=False)
    assert measured["samples"] == row.metrics["samples"]
    assert round(measured["accuracy"], 4) == row.metrics["accuracy"]
    assert measured["accuracy"] >= 0.98


def test_what_it_predicts_has_names():
    from sklearn.datasets import load_digits

    answers = zoo.predict("medvit2_kan_nano.digits", list(load_digits().images[:10] / 16), top=1)
    assert [a["label"] for a in answers] == list("0123456789")
