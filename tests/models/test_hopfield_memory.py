"""The memory of images: its class scores written out, what it completes, what it refuses, what is saved of it."""

from __future__ import annotations

import copy
import subprocess
import sys
from itertools import islice

import pytest
import timm
import torch
from torch import nn

import zoo
from zoo.errors import MismatchError
from zoo.models.hopfield_memory import HopfieldImageMemory
from zoo.training import open_data


def filled(count: int = 12, **options) -> HopfieldImageMemory:
    torch.manual_seed(0)
    model = HopfieldImageMemory(**{"num_classes": 3, "img_size": (4, 6), "in_chans": 2, "beta": 1.0, **options}).eval()
    model.store(torch.rand(count, 2, 4, 6), torch.arange(count) % 3)
    return model


def left_half(model: HopfieldImageMemory) -> torch.Tensor:
    known = torch.zeros(model.image_shape[1:], dtype=torch.bool)
    known[:, : known.shape[1] // 2] = True
    return known


def test_scores_are_the_logarithms_of_the_summed_weights():
    model = filled(association="softmax")
    x = torch.rand(5, 2, 4, 6)
    distances = torch.cdist(x.flatten(1), model.memory.patterns).square()
    weights = (-distances).softmax(1)
    torch.testing.assert_close(model.association(x), weights, rtol=1e-4, atol=1e-6)
    wanted = torch.stack([weights[:, c::3].sum(1) for c in range(3)], 1).log()
    torch.testing.assert_close(model(x), wanted, rtol=1e-4, atol=1e-4)
    # What has no label counts for no class, and without classes there is the image itself.
    model.memory.labels[:3] = -1
    torch.testing.assert_close(model(x).exp().sum(1), weights[:, 3:].sum(1), rtol=1e-3, atol=1e-4)
    model.reset_classifier(0)
    torch.testing.assert_close(model(x), weights @ model.memory.patterns, rtol=1e-4, atol=1e-5)


def test_only_the_known_pixels_count():
    """A class that is not recalled has a finite score; a half is completed whatever the other half shows."""
    model = filled(beta=32.0)
    stored, known = model.memory.patterns.reshape(12, 2, 4, 6), left_half(model)
    torch.testing.assert_close(model.recall(torch.rand_like(stored).where(~known, stored), known), stored)
    assert (model.association(stored * known, known).argmax(1) == torch.arange(12)).all()
    scores = model(stored)
    assert scores.isfinite().all()
    assert (scores.argmax(1) == torch.arange(12) % 3).all()
    # Every image may have a mask of its own.
    masks = torch.rand(12, 1, 4, 6) < 0.5
    torch.testing.assert_close(model.recall(stored * masks, masks), stored)
    one_by_one = [model.recall(stored[i : i + 1], masks[i : i + 1]) for i in range(12)]
    torch.testing.assert_close(model.recall(stored, masks), torch.cat(one_by_one))
    torch.testing.assert_close(model.recall(stored, torch.ones_like(known)), model.recall(stored))


def test_further_updates_go_on_from_the_whole_image():
    model, again = filled(association="softmax", beta=3.0), filled(association="softmax", beta=3.0, num_updates=3)
    x, known = torch.rand(4, 2, 4, 6), left_half(model)
    torch.testing.assert_close(again.recall(x, known), model.recall(model.recall(model.recall(x, known))))
    before = model.recall(model.recall(x))
    torch.testing.assert_close(again(x), model(before), rtol=1e-4, atol=1e-5)


def test_a_feature_map_is_read_for_the_known_pixels():
    model = filled(beta=32.0)
    model.memory.feature_map = torch.randn(9, 48, generator=torch.Generator().manual_seed(3))
    stored, known = model.memory.patterns.reshape(12, 2, 4, 6), left_half(model)
    features = model.memory.feature_map[:, known.expand(2, -1, -1).flatten()]
    pixels = stored[:, :, known].flatten(1)
    wanted = torch.cdist(pixels[:4] @ features.T + 0.1, pixels @ features.T).argmin(1)
    assert (wanted == torch.arange(4)).all()
    assert (model.association(stored[:4], known).argmax(1) == wanted).all()


@pytest.mark.parametrize(
    "options", [{}, {"num_patterns": 5}, {"learnable": True}, {"association": "entmax", "alpha": 1.5}]
)
def test_saved_with_what_is_stored(options, tmp_path):
    model = zoo.create_model("hopfield_memory", num_classes=3, img_size=(4, 6), in_chans=2, **options).eval()
    model.store(torch.rand(7, 2, 4, 6), [0, 1, 2, 0, 1, 2, 0])
    zoo.save_pretrained(model, tmp_path / "after")
    again = zoo.create_model(f"local-dir:{tmp_path / 'after'}").eval()
    x = torch.rand(3, 2, 4, 6)
    assert torch.equal(again(x), model(x))
    assert again.memory.learnable == model.memory.learnable
    assert torch.equal(copy.deepcopy(again)(x), model(x))
    again.store(torch.rand(2, 2, 4, 6))
    again.memory.learn_feature_map(steps=2)
    again.memory.remove([0])
    zoo.save_pretrained(again, tmp_path / "once_more")
    assert torch.equal(zoo.create_model(f"local-dir:{tmp_path / 'once_more'}").eval()(x), again(x))


def test_an_empty_memory_takes_any_number():
    model = filled()
    state = model.state_dict()
    empty = HopfieldImageMemory(3, 2, img_size=(4, 6), beta=1.0).eval()
    assert not empty.state_dict()
    empty.load_state_dict(empty.state_dict())
    empty.load_state_dict(state)
    x = torch.rand(2, 2, 4, 6)
    assert torch.equal(empty(x), model(x))
    inside = nn.Sequential(HopfieldImageMemory(3, 2, img_size=(4, 6), beta=1.0)).eval()
    inside.load_state_dict(nn.Sequential(model).state_dict())
    assert torch.equal(inside(x), model(x))
    with pytest.raises(MismatchError, match="images of 48 values are stored, the model takes 1×5×5"):
        HopfieldImageMemory(3, img_size=5).load_state_dict(state)
    # Labels of other classes are of no use; the images are.
    other = HopfieldImageMemory(2, 2, img_size=(4, 6), beta=1.0).eval()
    with pytest.warns(UserWarning, match="labels of 12 stored images are dropped"):
        other.load_state_dict(state)
    assert (other.memory.labels == -1).all()
    assert torch.equal(other.recall(x), model.recall(x))
    learned = HopfieldImageMemory(2, 2, img_size=(4, 6), learnable=True)
    learned.load_state_dict(state)
    assert learned.memory.labels.tolist() == [0, 1] * 6
    learned.reset_classifier(4)
    assert learned.memory.labels.tolist() == [0, 1, 2, 3] * 3


def test_checkpoint():
    model = zoo.create_model("hopfield_memory", pretrained=True).eval()
    assert (len(model.memory), model.num_classes) == (1000, 10)
    zero = model.memory.patterns[0].reshape(1, 1, 8, 8)
    answer = zoo.predict(model, zero[0, 0].numpy(), top=1)[0]
    assert answer["label"] == str(int(model.memory.labels[0]))
    theirs = timm.create_model("hopfield_memory", pretrained=True).eval()
    assert torch.equal(theirs(zero), model(zero))
    with pytest.warns(UserWarning, match=r"labels of 1000 stored images are dropped.*store\(images, labels\)"):
        three = zoo.create_model("hopfield_memory", pretrained=True, num_classes=3)
    assert (three.memory.labels == -1).all()
    with pytest.raises(MismatchError, match="images of 64 values are stored, the model takes 1×16×16"):
        zoo.create_model("hopfield_memory", pretrained=True, img_size=16)


def test_learned_images_are_fine_tuned(tmp_path):
    """A hundred stored digits become a better classifier; without `learnable` there is nothing to learn."""
    calm = {"progress": False, "device": "cpu", "amp": "no"}
    options = {"epochs": 3, "batch_size": 64, "lr": 0.02, "weight_decay": 0.0, "warmup_epochs": 0, "aug": "none"}
    model = zoo.create_model("hopfield_memory", learnable=True, association="softmax", beta=2.0).eval()
    images, labels = zip(*islice(open_data("digits", "train", model=model), 100), strict=True)
    model.store(torch.stack(images), list(labels))
    before = zoo.evaluate(model, "digits", progress=False)["accuracy"]
    result = zoo.finetune(model, "digits", out=tmp_path / "run", **options, **calm)
    assert before < 0.88
    assert result.metrics["accuracy"] > 0.96
    assert len(zoo.create_model(f"local-dir:{tmp_path / 'run' / 'best'}").memory) == 100
    with pytest.raises(ValueError, match="a memory learns by storing"):
        zoo.finetune("hopfield_memory", "digits", out=tmp_path / "none", **options, **calm)


def test_all_is_drawn_anew():
    model = HopfieldImageMemory(3, num_patterns=7, img_size=2, device="meta").to_empty(device="cpu")
    model.memory.patterns.fill_(torch.nan)
    model.memory.labels.fill_(99)
    model.init_weights()
    assert model.memory.patterns.isfinite().all()
    assert model.memory.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]


_REFUSED = """
import pytest, torch
from zoo.models.hopfield_memory import HopfieldImageMemory
model = HopfieldImageMemory(3, img_size=4)
x = torch.rand(2, 1, 4, 4)
with pytest.raises(ValueError, match="no stored pattern to recall: store at least one"):
    model(x)
model.store(x, [0, 2])
for call in (model, model.recall, model.association, model.store):
    with pytest.raises(ValueError, match=r"expected images \\(batch, 1, 4, 4\\), got \\(1, 4, 4\\); img_size="):
        call(x[0])
    with pytest.raises(TypeError, match="images must be floating point, as they are stored, got torch.uint8"):
        call(x.byte())
with pytest.raises(ValueError, match="labels must be from 0 to 2, got 0 to 3"):
    model.store(x, [0, 3])
with pytest.raises(ValueError, match="labels must be 2 integers"):
    model.store(x, [0])
with pytest.raises(TypeError, match="known must be boolean, True where a pixel is known, got torch.float32"):
    model.recall(x, x)
with pytest.raises(ValueError, match=r"known must broadcast to the images \\(2, 1, 4, 4\\), got \\(3,\\)"):
    model.recall(x, torch.ones(3, dtype=torch.bool))
with pytest.raises(ValueError, match="nothing is known of image 1: give it a pixel"):
    model.recall(x, torch.tensor([True, False]).reshape(2, 1, 1, 1))
with pytest.raises(ValueError, match="num_classes must be an int ≥ 0, got -1"):
    model.reset_classifier(-1)
with pytest.raises(ValueError, match="img_size"):
    HopfieldImageMemory(img_size=0)
model.eval()
for way in (torch.compile(model, fullgraph=True, backend="aot_eager"), torch.export.export(model, (x,)).module()):
    torch.testing.assert_close(way(x), model(x))
"""


def test_refused_and_compiled():
    """In a process of its own: without the run-time checks around the calls."""
    subprocess.run([sys.executable, "-c", _REFUSED], check=True, timeout=600)
