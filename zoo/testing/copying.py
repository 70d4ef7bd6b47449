"""Checks of copies: state dicts, deepcopy, pickle."""

from __future__ import annotations

import copy
import io
import pickle

import torch

from zoo.testing.subject import Subject, disturb, expect, expect_equal


def state_dict(subject: Subject) -> None:
    """Loaded into another instance, the state gives the same outputs to the bit."""
    module = subject.trained()
    torch.manual_seed(1)
    other = subject.build().eval()
    disturb(other)
    other.load_state_dict(module.state_dict(), strict=True)
    expect_equal(other(*subject.inputs()), module(*subject.inputs()), "outputs after load_state_dict")


def deepcopy(subject: Subject) -> None:
    """A copy gives the same outputs to the bit, and shares no parameter with the original."""
    module = subject.trained()
    other = copy.deepcopy(module)
    wanted = module(*subject.inputs())
    expect_equal(other(*subject.inputs()), wanted, "outputs of the copy")
    disturb(other)
    expect_equal(module(*subject.inputs()), wanted, "outputs of the original, when the copy has changed")


def pickled(subject: Subject) -> None:
    """What comes back from pickle, as worker processes send it, gives the same outputs to the bit."""
    module = subject.trained()
    memory = io.BytesIO()
    try:
        pickle.Pickler(memory).dump(module)
    except Exception as error:
        raise AssertionError(
            f"expected a module that pickles (classes and functions at the top of a module), got {error}"
        ) from error
    memory.seek(0)
    # In memory and of our own making: nothing from outside is unpickled.
    other = pickle.Unpickler(memory).load()
    expect(type(other) is type(module), f"expected a {type(module).__name__} back, got {type(other).__name__}")
    expect_equal(other(*subject.inputs()), module(*subject.inputs()), "outputs after pickle")
