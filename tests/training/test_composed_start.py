"""Parts put into a trained model for fine-tuning begin as copies of what was there, fitted to the training images."""

from __future__ import annotations

import zoo
from tests.training.helpers import few_digits, two_shades
from zoo.training.model_source import model_for


def test_a_trained_model_keeps_what_it_knows_when_its_head_is_replaced() -> None:
    """Fitted to random images instead, the same head answers as a dice would."""
    digits = few_digits(train=200)
    train = digits.present()["train"]
    net, notes = model_for("medvit2_kan_nano.digits", train, pretrained=True, model_args={"head": "kan"})
    assert notes[0].startswith("1 part begins as a copy of what was there, relative error up to 0.")
    assert zoo.evaluate(net, digits, progress=False)["accuracy"] > 0.9
    own, silent = model_for(
        "medvit2_kan_nano.digits", train, pretrained=True, model_args={"head": {"type": "kan", "init": "own"}}
    )
    assert silent == []
    assert zoo.evaluate(own, digits, progress=False)["accuracy"] < 0.5


def test_without_weights_there_is_nothing_to_copy() -> None:
    train = two_shades(40)
    net, notes = model_for("test_resnet", train, pretrained=False, model_args={"head": "kan"})
    assert notes == []
    assert {c.init for c in net.zoo_composition.changes} == {"own"}  # type: ignore[union-attr]
