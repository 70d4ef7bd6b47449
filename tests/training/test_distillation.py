"""Learning from a teacher: the golden losses, limits that say what the loss is, and what the teacher is shown."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

import zoo
from tests.training.helpers import QUICK, TinyNet, few_digits, tiny_net, two_shades
from tests.training.test_processes import launch
from tests.training.test_resume import assert_equal, weights, without_times
from zoo.errors import DataError, TrainingError
from zoo.training.checkpoint import checkpoints
from zoo.training.data import ArrayImages
from zoo.training.distillation import Teacher, _Converted, distillation_loss
from zoo.training.preparation import pipeline_for

GOLDEN = Path(__file__).parents[1] / "golden" / "stitch"
PLAIN: dict[str, Any] = {**QUICK, "ema": 0.9, "aug": "none", "hflip": 0.0}


def ready_teacher(seed: int = 5, **options: Any) -> TinyNet:
    """A network with statistics of its own, so that its mode matters."""
    net = tiny_net(seed, **options)
    net.train()(torch.randn(32, net.in_chans, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 + 1)
    return net


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_the_golden_losses(kind: str) -> None:
    tensors = load_file(GOLDEN / f"distill_{kind}.safetensors")
    facts = json.loads((GOLDEN / f"distill_{kind}.json").read_text())
    alpha, tau = facts["kwargs"]["alpha"], facts["kwargs"]["tau"]
    teacher = Teacher(nn.Identity(), two_shades(4), lambda images: images, None, kind=kind, alpha=alpha, tau=tau)
    logits = tensors["in.logits"].requires_grad_()
    loss = teacher.loss(F.cross_entropy(logits, tensors["in.soft_labels"]), logits, tensors["in.teacher_logits"])
    loss.backward()
    torch.testing.assert_close(loss.detach().reshape(1), tensors["out.loss"], **facts["tolerance"])
    torch.testing.assert_close(logits.grad, tensors["grad.logits"], **facts["tolerance"])


def test_nothing_is_far_from_itself() -> None:
    logits = torch.randn(6, 4)
    assert float(distillation_loss(logits, logits, kind="soft", tau=3.0)) == pytest.approx(0, abs=1e-6)
    certain = F.one_hot(logits.argmax(1), 4) * 1e3
    assert float(distillation_loss(certain, logits, kind="hard", tau=1.0)) == pytest.approx(0, abs=1e-6)
    # For a high temperature the divergence goes by the squared differences of centred logits (Hinton et al., 2015).
    other = torch.randn(6, 4)
    centred = [x - x.mean(1, keepdim=True) for x in (logits, other)]
    soft = distillation_loss(logits, other, kind="soft", tau=50.0)
    expected = (centred[0] - centred[1]).square().sum() / (2 * 4) / logits.numel()
    assert float(soft) == pytest.approx(float(expected), rel=0.05)


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_without_a_share_a_teacher_changes_nothing(tmp_path: Path, kind: str) -> None:
    options = {**QUICK, "mixup": 0.2, "accum": 2, "ema": 0.9, "aug": "light"}
    zoo.finetune(tiny_net(), few_digits(), out=tmp_path / "alone", **options)
    zoo.finetune(
        tiny_net(), few_digits(), out=tmp_path / "taught", teacher=ready_teacher(), distillation=kind,
        distillation_alpha=0.0, **options,
    )  # fmt: skip
    assert_equal(weights(tmp_path / "alone"), weights(tmp_path / "taught"))


def test_a_hard_teacher_alone_is_its_own_labels(tmp_path: Path) -> None:
    teacher, splits = ready_teacher(), few_digits()
    zoo.finetune(tiny_net(), splits, out=tmp_path / "taught", teacher=teacher, distillation_alpha=1.0, **PLAIN)
    relabelled = few_digits()
    train = relabelled.train
    assert train is not None
    prepare = pipeline_for(teacher, train)
    shown: list[Any] = [prepare(train.image(i), train.where(i)) for i in range(len(train))]
    with torch.no_grad():
        train.labels = teacher.eval()(torch.stack(shown)).argmax(1).numpy()
    assert (train.labels != splits.train.labels).any()  # pyright: ignore
    zoo.finetune(tiny_net(), relabelled, out=tmp_path / "told", **PLAIN)
    assert_equal(weights(tmp_path / "taught"), weights(tmp_path / "told"))


def test_the_teacher_stays_what_it_was(tmp_path: Path) -> None:
    teacher = ready_teacher().train()
    teacher.body.eval()
    teacher.stem.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    modes = [m.training for m in teacher.modules()]
    seen: list[tuple[bool, bool]] = []

    def look(module: nn.Module, inputs: Any, output: Any) -> None:
        seen.append((module.training, output.requires_grad))

    teacher.register_forward_hook(look)
    zoo.finetune(tiny_net(), few_digits(), out=tmp_path / "run", teacher=teacher, **QUICK)
    assert_equal(before, teacher.state_dict())
    assert [m.training for m in teacher.modules()] == modes
    assert not any(p.requires_grad for p in teacher.stem.parameters())
    assert all(p.requires_grad and p.grad is None for p in teacher.fc.parameters())
    assert set(seen) == {(False, False)}
    assert len(seen) == 12  # training batches alone


def test_the_teacher_sees_the_mixed_images(tmp_path: Path) -> None:
    batches: dict[str, list[Tensor]] = {"model": [], "teacher": []}
    model, teacher = tiny_net(), ready_teacher()

    def note(name: str) -> Any:
        def look(module: nn.Module, inputs: Any) -> None:
            if module.training or name == "teacher":
                batches[name].append(inputs[0])

        return look

    model.stem.register_forward_pre_hook(note("model"))
    teacher.stem.register_forward_pre_hook(note("teacher"))
    zoo.finetune(model, few_digits(), out=tmp_path / "run", teacher=teacher, mixup=0.5, **{**QUICK, "epochs": 1})
    assert len(batches["teacher"]) == 6
    for mine, theirs in zip(batches["model"], batches["teacher"], strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("amp", ["no", "bf16"])
def test_a_run_that_was_cut_off_ends_in_the_same_bits(tmp_path: Path, amp: str) -> None:
    options = {
        **QUICK, "amp": amp, "mixup": 0.2, "accum": 2, "ema": 0.9, "save_every": 1, "keep_last": 99, "distillation":
        "soft", "distillation_tau": 2.0,
    }  # fmt: skip
    whole = zoo.finetune(tiny_net(), few_digits(), out=tmp_path / "whole", teacher=ready_teacher(), **options)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for path in checkpoints(tmp_path / "cut" / "checkpoints")[2:]:
        shutil.rmtree(path)
    with pytest.raises(TrainingError, match=r"the teacher's weights are not those that the run in .* learned from"):
        zoo.finetune(tiny_net(), few_digits(), out=tmp_path / "cut", teacher=ready_teacher(6), **options)
    with pytest.raises(TrainingError, match="teacher was 'tinynet', is None"):
        kept = {k: v for k, v in options.items() if not k.startswith("distillation")}
        zoo.finetune(tiny_net(), few_digits(), out=tmp_path / "cut", **kept)
    cut = zoo.finetune(tiny_net(9), few_digits(), out=tmp_path / "cut", teacher=ready_teacher(), **options)
    assert_equal(weights(tmp_path / "cut"), weights(tmp_path / "whole"))
    assert without_times(cut.history) == without_times(whole.history)


SCRIPT = """
import json, sys
from tests.training.test_distillation import few_digits, plain_teacher
from tests.training.test_processes import plain_net
import zoo
result = zoo.finetune(plain_net(), few_digits(), out=sys.argv[1], teacher=plain_teacher(), **json.loads(sys.argv[2]))
print(json.dumps(result.metrics))
"""


def plain_teacher() -> TinyNet:
    return ready_teacher(4)


@pytest.mark.ci_long
def test_two_processes_equal_one(tmp_path: Path) -> None:
    from tests.training.test_processes import plain_net

    options: dict[str, Any] = {**QUICK, "opt": "sgd", "lr": 0.05, "aug": "light", "distillation": "soft"}
    one, two = {**options, "batch_size": 16}, {**options, "batch_size": 8}
    zoo.finetune(plain_net(), few_digits(), out=tmp_path / "one", teacher=plain_teacher(), **one)
    launch(tmp_path / "two", script=SCRIPT, **two)
    alone, both = (load_file(tmp_path / run / "best" / "model.safetensors") for run in ("one", "two"))
    for name in alone:
        assert torch.allclose(alone[name], both[name], atol=1e-5), name


# --- what the teacher is shown ----------------------------------------------------------------------------------------

GREY = {"input_size": (1, 8, 8), "mean": (0.4,), "std": (0.3,), "interpolation": "bilinear"}
COLOUR = {"input_size": (3, 8, 8), "mean": (0.2, 0.5, 0.7), "std": (0.1, 0.2, 0.3), "interpolation": "bicubic"}


def prepared(image: Image.Image, config: dict[str, Any]) -> Tensor:
    """An image of 8x8 as a model of this configuration takes it, by hand."""
    pixels = torch.from_numpy(np.array(image.convert("L" if config["input_size"][0] == 1 else "RGB"))) / 255
    pixels = pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)
    return (pixels - torch.tensor(config["mean"])[:, None, None]) / torch.tensor(config["std"])[:, None, None]


@pytest.mark.parametrize(("mine", "theirs"), [(GREY, COLOUR), (COLOUR, GREY), (COLOUR, {**COLOUR, "mean": (0, 0, 0)})])
def test_it_gets_its_own_channels_and_statistics(mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    numbers = np.random.RandomState(0)
    grey = mine["input_size"][0] == 1
    image = Image.fromarray(numbers.randint(0, 256, (8, 8) if grey else (8, 8, 3), dtype=np.uint8))
    shown = _Converted(mine, theirs)(prepared(image, mine)[None])[0]
    # Pillow rounds grey to whole numbers.
    assert torch.allclose(shown, prepared(image, theirs), atol=1e-5 if grey else 0.51 / 255 / 0.1)


def test_it_gets_its_own_size() -> None:
    larger = {**GREY, "input_size": (1, 24, 24)}
    rows = torch.linspace(0, 1, 8)[:, None].expand(8, 8)
    images = ((rows - 0.4) / 0.3)[None, None]
    shown = _Converted(GREY, larger)(images) * 0.3 + 0.4
    assert shown.shape == (1, 1, 24, 24)
    assert torch.allclose(shown[0, 0, 1::3], rows[:, :1].expand(8, 24), atol=1e-5)  # the middles of the old pixels
    same = torch.randn(2, 1, 8, 8)
    assert _Converted(GREY, GREY)(same) is same
    with pytest.raises(DataError, match="the teacher takes images of 3 channels, the model of 4"):
        _Converted({**GREY, "input_size": (4, 8, 8)}, COLOUR)


def test_a_larger_teacher_of_colour_teaches_a_small_one_of_grey(tmp_path: Path) -> None:
    teacher = tiny_net(size=16, in_chans=3)
    shapes = set()
    teacher.register_forward_pre_hook(lambda module, inputs: shapes.add(tuple(inputs[0].shape[1:])))
    zoo.finetune(tiny_net(), few_digits(), out=tmp_path / "run", teacher=teacher, **{**QUICK, "epochs": 1})
    assert shapes == {(3, 16, 16)}


def test_classes_are_found_by_name(tmp_path: Path) -> None:
    """A teacher that numbers the classes otherwise teaches the same."""
    data = {"train": two_shades(64, 8), "val": two_shades(16, 8, seed=1)}
    teacher = ready_teacher(num_classes=2, in_chans=3)
    teacher.pretrained_cfg["label_names"] = ["dark", "light"]
    model: dict[str, Any] = {"num_classes": 2, "in_chans": 3}
    zoo.finetune(tiny_net(**model), data, out=tmp_path / "one", teacher=teacher, **PLAIN)
    with torch.no_grad():
        for tensor in (teacher.fc.weight, teacher.fc.bias):
            tensor.copy_(tensor.flip(0))
    teacher.pretrained_cfg["label_names"] = ["light", "dark"]
    zoo.finetune(tiny_net(**model), data, out=tmp_path / "two", teacher=teacher, **PLAIN)
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert_equal(one, two)


# --- names, folders, refusals -----------------------------------------------------------------------------------------


def test_a_run_folder_teaches_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    common = {**QUICK, "epochs": 1, "img_size": 32}
    first = zoo.finetune("test_vit", few_digits(), out="first", **common)
    second = zoo.finetune("test_resnet", few_digits(), out="second", teacher="first", distillation="soft", **common)
    stored = json.loads((second.folder / "args.json").read_text())
    assert stored["given"]["teacher"] == str(tmp_path / "first")
    assert {k: v for k, v in stored["options"].items() if k.startswith(("teacher", "distill"))} == {
        "teacher": "first", "distillation": "soft", "distillation_alpha": 0.5, "distillation_tau": 1.0,
    }  # fmt: skip
    made = json.loads((second.folder / "best" / "config.json").read_text())
    assert '"distillation": "soft"' in json.dumps(made)
    assert "distillation" not in (first.folder / "best" / "config.json").read_text()
    page = zoo.report("second").read_text()
    assert f"--teacher {tmp_path / 'first'} --distillation soft" in page
    assert "--distillation" not in zoo.report("first").read_text()


def _bags_model() -> nn.Module:
    return zoo.create_model("hopfield_mil", dim=4, num_classes=10)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"distillation": "soft"}, ValueError, "distillation='soft' says how a teacher teaches, and there is none"),
        ({"distillation_tau": 2.0}, ValueError, "distillation_tau=2.0 says how a teacher teaches"),
        ({"teacher": 5, "distillation": "harrd"}, ValueError, "one of hard, soft, got 'harrd'; did you mean 'hard'"),
        ({"teacher": 5, "distillation_alpha": 1.5}, ValueError, "distillation_alpha must be a number from 0 to 1"),
        ({"teacher": 5, "distillation_tau": 0}, ValueError, "distillation_tau must be a positive number, got 0"),
        ({"teacher": "resnet18.a1_in2k"}, RuntimeError, "no checkpoint tagged 'a1_in2k'; did you mean 'a1_in1k'"),
        (
            {"teacher": {"num_classes": 7}},
            DataError,
            "the teacher tinynet has 7 classes, the data have '0', .*; train it on",
        ),
        ({"teacher": _bags_model}, DataError, "teacher: hopfield_mil takes bags of instances, train has images"),
        ({"teacher": "itself"}, ValueError, "the teacher is the very model that is trained"),
        ({"teacher": "nan"}, TrainingError, "the teacher's answer to .* is not finite"),
        ({"teacher": "short"}, TrainingError, r"teacher: the model answered \(16, 3\)"),
    ],
)
def test_what_is_refused(tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str) -> None:
    model, teacher = tiny_net(), options.get("teacher")
    if teacher == "itself":
        teacher = model
    elif teacher in (5, "nan", "short"):
        teacher = ready_teacher()
        if options["teacher"] == "nan":
            teacher.fc.bias.data[3] = float("nan")
        elif options["teacher"] == "short":
            teacher.fc = nn.Linear(teacher.fc.in_features, 3)
    elif isinstance(teacher, dict):
        teacher = tiny_net(**teacher)
    elif callable(teacher):
        teacher = teacher()
    with pytest.raises(error, match=message):
        zoo.finetune(model, few_digits(), out=tmp_path / "run", **{**QUICK, **options, "teacher": teacher})


def test_a_teacher_of_other_classes_is_refused(tmp_path: Path) -> None:
    teacher = tiny_net(1, num_classes=2, in_chans=3)
    teacher.pretrained_cfg["label_names"] = ["cat", "dog"]
    with pytest.raises(DataError, match="tinynet has 'cat', 'dog', the data have 'dark', 'light'; train it on these"):
        zoo.finetune(tiny_net(num_classes=2, in_chans=3), two_shades(), out=tmp_path, teacher=teacher, **QUICK)


def test_several_labels_an_image_have_no_teacher(tmp_path: Path) -> None:
    labels = np.random.RandomState(0).randint(0, 2, (40, 3))
    images = ArrayImages(np.zeros((40, 8, 8), np.uint8), labels, list("abc"), name="three")
    with pytest.raises(ValueError, match="a teacher names one class a image, these images have several labels each"):
        zoo.finetune(tiny_net(num_classes=3), images, out=tmp_path, teacher=tiny_net(1, num_classes=3), **QUICK)


# --- bags and sequences -----------------------------------------------------------------------------------------------


def test_bags_are_taught_where_both_take_them_alike(tmp_path: Path) -> None:
    from tests.training.test_bags_training import RUN, in_other_units

    data = in_other_units()
    zoo.finetune("hopfield_mil", data, out=tmp_path / "first", **RUN)
    options = {**RUN, "teacher": tmp_path / "first", "distillation": "soft", "distillation_alpha": 1.0}
    taught = zoo.finetune("hopfield_mil", data, out=tmp_path / "second", **{**options, "epochs": 6})
    losses = [row["train_loss"] for row in taught.history]
    assert losses[-1] < losses[0] / 2  # it comes to answer what the teacher does
    with pytest.raises(DataError, match="the teacher hopfield_mil takes bags prepared otherwise than hopfield_mil"):
        zoo.finetune("hopfield_mil", data, out=tmp_path / "third", standardise=False, **options)


def test_sequences_are_taught_where_both_take_them_alike(tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 1, "lr": 0.01, "batch_size": 64, "progress": False}
    zoo.finetune("qtn_uptn_aa", "peptides", out=tmp_path / "first", model_args={"max_len": 16}, **options)
    options["teacher"] = tmp_path / "first"
    zoo.finetune("qtn_httn_aa", "peptides", out=tmp_path / "second", model_args={"max_len": 16}, **options)
    with pytest.raises(DataError, match="takes sequences prepared otherwise than qtn_httn_aa"):
        zoo.finetune("qtn_httn_aa", "peptides", out=tmp_path / "third", model_args={"max_len": 8}, **options)
