"""Behaviour added to one object: its class, its copies, and how it is taken off again."""

from __future__ import annotations

import copy
import pickle

import torch
from torch import nn

from zoo.composition.heads import ConvHead
from zoo.composition.mlps import ChannelsFirst, ChannelsLast, WithoutSize
from zoo.composition.specialise import original_class, restore, specialise


def test_the_object_keeps_its_class_its_values_and_its_names():
    linear = nn.Linear(3, 3)
    before = {k: v.clone() for k, v in linear.state_dict().items()}
    assert specialise(linear, ChannelsFirst) is linear
    assert isinstance(linear, nn.Linear)
    assert isinstance(linear, ChannelsFirst)
    assert (type(linear).__name__, type(linear).__module__) == ("Linear", nn.Linear.__module__)
    assert original_class(linear) is nn.Linear
    assert all(torch.equal(before[k], v) for k, v in linear.state_dict().items())
    x = torch.randn(2, 3, 4, 5)
    assert torch.equal(linear(x), nn.functional.linear(x.movedim(1, -1), linear.weight, linear.bias).movedim(-1, 1))


def test_other_objects_of_the_class_are_as_before():
    specialise(nn.Linear(3, 3), ChannelsFirst)
    x = torch.randn(2, 3)
    assert type(nn.Linear(3, 3)) is nn.Linear
    assert nn.Linear(3, 3)(x).shape == (2, 3)


def test_a_behaviour_is_added_once_and_the_class_is_made_once():
    one, other = specialise(nn.Linear(3, 3), WithoutSize), specialise(nn.Linear(3, 4), WithoutSize)
    assert type(one) is type(other)
    assert type(specialise(one, WithoutSize)) is type(other)
    specialise(one, ChannelsFirst)
    assert one.zoo_parts == (nn.Linear, (WithoutSize, ChannelsFirst))


def test_the_last_behaviour_is_asked_first():
    both = specialise(nn.Linear(3, 3), ChannelsFirst, ChannelsLast)
    x = torch.randn(2, 5, 4, 3)
    # Channels last on the outside, channels first within: as if nothing had been added.
    assert torch.allclose(both(x), nn.functional.linear(x, both.weight, both.bias))


def test_it_is_taken_off_again_one_by_one():
    linear = specialise(nn.Linear(3, 3), ChannelsFirst, WithoutSize)
    restore(linear, ChannelsFirst)
    assert linear.zoo_parts == (nn.Linear, (WithoutSize,))
    restore(linear, WithoutSize)
    assert type(linear) is nn.Linear
    assert restore(linear, WithoutSize) is linear


def test_copies_and_pickles_have_the_behaviour_the_values_and_the_attributes():
    head = specialise(nn.Linear(3, 2), ConvHead, zoo_mark=7).eval()
    x = torch.randn(2, 3, 1, 1)
    for other in (copy.deepcopy(head), pickle.loads(pickle.dumps(head))):
        assert type(other) is type(head)
        assert other.zoo_mark == 7
        assert not other.training
        assert torch.equal(other(x), head(x))
        with torch.no_grad():
            other.weight.add_(1.0)
        assert not torch.equal(other.weight, head.weight)
