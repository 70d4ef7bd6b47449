"""Which images an update sees: a function of seed and epoch, the same for every number of workers and processes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.training.helpers import few_digits
from zoo.errors import DataError
from zoo.training.data.loader import Pipeline, batches, epoch_plan, eval_plan
from zoo.training.data.transform import train_transform
from zoo.training.randomness import derive, kept_random_state, order, seed_all

CONFIG = {
    "input_size": (1, 8, 8),
    "interpolation": "bilinear",
    "mean": (0.5,),
    "std": (0.5,),
    "crop_pct": 1.0,
    "crop_mode": "center",
}


def flat(plan: list[list[list[int]]]) -> list[int]:
    return [i for step in plan for batch in step for i in batch]


def test_every_image_once_an_epoch_in_an_order_of_its_own() -> None:
    first = epoch_plan(103, batch_size=10, accum=2, seed=1, epoch=0)
    assert sorted(flat(first)) == list(range(103))
    assert [len(step) for step in first] == [2, 2, 2, 2, 2, 1]
    assert first == epoch_plan(103, batch_size=10, accum=2, seed=1, epoch=0)
    assert flat(first) != flat(epoch_plan(103, batch_size=10, accum=2, seed=1, epoch=1))
    assert flat(first) != flat(epoch_plan(103, batch_size=10, accum=2, seed=2, epoch=0))
    assert flat(first) == flat(epoch_plan(103, batch_size=20, accum=1, seed=1, epoch=0))


def test_processes_share_the_batches_of_one() -> None:
    alone = epoch_plan(64, batch_size=16, accum=1, seed=0, epoch=3)
    shares = [epoch_plan(64, batch_size=8, accum=1, seed=0, epoch=3, rank=r, world=2) for r in range(2)]
    for step, one, two in zip(alone, *shares, strict=True):
        assert sorted(step[0]) == sorted(one[0] + two[0])
        assert len(one[0]) == len(two[0])


def test_a_small_last_batch_is_cut_to_fit() -> None:
    assert len(flat(epoch_plan(33, batch_size=16, accum=1, seed=0, epoch=0))) == 32  # one image cannot be normalised
    assert len(flat(epoch_plan(35, batch_size=16, accum=1, seed=0, epoch=0, multiple=2))) == 34
    shares = [flat(epoch_plan(21, batch_size=4, accum=1, seed=0, epoch=0, rank=r, world=2)) for r in range(2)]
    assert [len(s) for s in shares] == [10, 10] or [len(s) for s in shares] == [8, 8]
    assert flat(epoch_plan(1, batch_size=16, accum=1, seed=0, epoch=0)) == [0]
    with pytest.raises(DataError, match="1 training image"):
        epoch_plan(1, batch_size=16, accum=1, seed=0, epoch=0, multiple=2)


def test_evaluation_covers_all_in_order() -> None:
    assert eval_plan(5, batch_size=2) == [[0, 1], [2, 3], [4]]
    both = [i for r in range(2) for b in eval_plan(7, batch_size=2, rank=r, world=2) for i in b]
    assert sorted(both) == list(range(7))


@pytest.mark.parametrize("workers", [1, 2])
def test_augmentation_does_not_depend_on_workers_or_batches(workers: int) -> None:
    data = few_digits(train=24).present()["train"]
    pipeline = Pipeline(1, train_transform(CONFIG, "light", hflip=0.5))
    alone = list(batches(data, pipeline, [[0, 1, 2, 3], [4, 5]], seed=5, epoch=2))
    parallel = list(batches(data, pipeline, [[4, 5], [3, 2, 1, 0]], seed=5, epoch=2, workers=workers))
    assert torch.equal(alone[0].images.flip(0), parallel[1].images)
    assert torch.equal(alone[1].images, parallel[0].images)
    other = next(iter(batches(data, pipeline, [[0, 1, 2, 3]], seed=5, epoch=3)))
    assert not torch.equal(alone[0].images, other.images)
    assert alone[1].targets.tolist() == data.labels[4:6].tolist()


def test_images_of_different_shapes_are_named() -> None:
    data = few_digits(train=4).present()["train"]
    sizes = iter((8, 9))
    pipeline = Pipeline(1, lambda image: torch.zeros(1, 8, next(sizes)))
    with pytest.raises(DataError, match=r"different shapes \[\(1, 8, 8\), \(1, 8, 9\)\]"):
        next(iter(batches(data, pipeline, [[0, 1]])))
    with pytest.raises(DataError, match="transform=None images must be tensors"):
        next(iter(batches(data, Pipeline(1, None), [[0, 1]])))


def test_seeds_are_the_same_everywhere() -> None:
    assert derive(0, "step", 17) == 5989636385884596646
    assert derive(0, "step", 17) != derive(0, "step", 1, 7)
    assert order(6, seed=0, epoch=0) == [2, 5, 0, 3, 1, 4]


def test_the_callers_random_state_is_given_back() -> None:
    seed_all(3)
    expected = torch.rand(2), np.random.rand(2)
    seed_all(3)
    with kept_random_state():
        seed_all(99)
        torch.rand(10)
    assert torch.equal(torch.rand(2), expected[0])
    assert np.array_equal(np.random.rand(2), expected[1])
