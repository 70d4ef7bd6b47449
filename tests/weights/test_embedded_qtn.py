"""The quantum tensor network of peptides: what its manifest says of it."""

from __future__ import annotations

import zoo
from zoo.registry import weights_entry


def test_it_reaches_what_the_manifest_states() -> None:
    row = weights_entry("qtn_uptn_aa.peptides")
    measured = zoo.evaluate("qtn_uptn_aa.peptides", "peptides", split=row.metrics["split"], progress=False)
    assert {name: round(measured[name], 4) for name in ("accuracy", "auroc")} == {
        name: row.metrics[name] for name in ("accuracy", "auroc")
    }
    assert measured["samples"] == row.metrics["samples"]
    assert row.metrics["accuracy"] >= 0.83


def test_it_knows_its_words_and_classes() -> None:
    magainin, segment = zoo.predict("qtn_uptn_aa.peptides", ["GIGKFLHSAKKFGKAFVGEIMNS", "LLVVIAVALLIVGLVALGLL"])
    assert (magainin["label"], segment["label"]) == ("AMP", "TM")
