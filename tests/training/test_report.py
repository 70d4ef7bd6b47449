"""The report says what the run's files say, shows the images, loads nothing, and is read in a real browser."""

from __future__ import annotations

import base64
import io
import itertools
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import metrics as sk
from typer.testing import CliRunner

import zoo
from tests.browser import Browser
from tests.training.helpers import QUICK, few_digits, tiny_net
from zoo.cli import app
from zoo.errors import DataError, TrainingError
from zoo.training.data import ArrayImages, Splits
from zoo.training.metrics import classification_metrics
from zoo.training.model_source import starts_from_weights
from zoo.training.reporting.chart import Line, line_chart, thinned, ticks
from zoo.training.reporting.command import changed_settings, command
from zoo.training.reporting.facts import read_run
from zoo.training.reporting.numbers import auroc, calibration, calibration_error, class_rows, largest_confusions
from zoo.training.reporting.thumbnail import data_uri

pytest_plugins = ["tests.browser"]

HOSTILE = "<img src=x onerror=alert(1)>"
CLASSES = [HOSTILE, 'it\'s "two" & more', "three"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits 0, 1, 2 as image files; classes and files have names that HTML would mind."""
    root = tmp_path_factory.mktemp("report") / "images"
    for name, split in few_digits(train=240, val=120, test=160).present().items():
        for i in np.flatnonzero(split.labels < 3):
            folder = root / name / CLASSES[split.labels[i]]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(split.image(int(i))).resize((96, 80)).save(folder / f"{i} \"'><b>.png")
    return root


@pytest.fixture(scope="module")
def run(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs of a small model, so badly trained that it errs."""
    folder = tmp_path_factory.mktemp("runs") / "a <b>run"
    options: dict[str, Any] = {**QUICK, "img_size": 32, "lr": 1e-3}
    zoo.finetune("test_resnet", images, out=folder, model_args={"in_chans": 1}, **options)
    return folder


@pytest.fixture(scope="module")
def page(run: Path, images: Path) -> Path:
    return zoo.report(run, data=images)


def read(run: Path, name: str) -> Any:
    return json.loads((run / name).read_text())


def cells(browser: Browser, selector: str) -> list[list[str]]:
    """The text of a table's body."""
    script = "return [...document.querySelector(arguments[0]).tBodies[0].rows].map(r => [...r.cells].map(c => "
    return browser.run(script + "c.innerText.trim()))", selector)


# --- in the browser ---------------------------------------------------------------------------------------------------


def test_the_page_loads_nothing_and_complains_of_nothing(page: Path, browser: Browser) -> None:
    browser.open(page)
    assert browser.driver.title == "a <b>run – zoo report"
    assert browser.one("h1").text == "a <b>run"
    assert len(browser.all("#curves svg.chart")) == 3
    assert browser.said() == []
    loaded = [address for address in browser.requested() if not address.startswith("data:")]
    assert loaded == [page.resolve().as_uri()]


def test_what_could_run_cannot(page: Path, browser: Browser, tmp_path: Path) -> None:
    browser.open(page)
    assert browser.all("img[onerror]") == []
    assert browser.all("main b b, h1 b, td b") == []
    assert HOSTILE in browser.one("#classes").text
    # Even if a name got into the page unescaped, the policy would keep it from running, and from loading anything.
    broken = tmp_path / "broken.html"
    spoilt = '<script>document.title = "taken"</script><img src="http://127.0.0.1:9/x.png">'
    broken.write_text(page.read_text().replace("<main>", f"<main>{spoilt}"))
    browser.open(broken)
    assert browser.driver.title == "a <b>run – zoo report"
    said = " ".join(browser.said())
    assert said.count("Content Security Policy") == 2


def test_numbers_are_those_of_the_run(run: Path, page: Path, browser: Browser) -> None:
    metrics, history = read(run, "metrics.json"), read(run, "history.json")
    browser.open(page)
    rows = {row[0].split("\n")[0].removesuffix(" chose the best epoch"): row[1:]
            for row in cells(browser, "#metrics-table")}  # fmt: skip
    names = {"accuracy": "accuracy", "F1 (macro)": "f1", "loss": "loss", "calibration error (ECE)": "ece"}
    names |= {"AUROC": "auroc", "AUPRC": "auprc", "balanced accuracy": "balanced_accuracy"}
    assert rows == {
        shown: [f"{metrics[split][name]:.4f}" for split in ("val", "test")] for shown, name in names.items()
    }
    heading = browser.one("#metrics-table thead").text
    assert all(f"{split} n = {metrics[split]['samples']}" in heading for split in ("val", "test"))
    drawn = cells(browser, "table.matrix")
    assert [row[0] for row in drawn] == CLASSES
    assert [[int(cell) for cell in row[1:]] for row in drawn] == metrics["test"]["confusion"]
    classes = {row[0]: row[1:] for row in cells(browser, "#classes table")}
    confusion = np.array(metrics["test"]["confusion"])
    for k, name in enumerate(CLASSES):
        assert classes[name][2:4] == [str(confusion[k].sum()), str(confusion[:, k].sum())]
        assert classes[name][4] == f"{confusion[k, k] / confusion[k].sum():.4f}"
    browser.run("document.querySelector('#curves details').open = true")
    assert [row[0] for row in cells(browser, "#curves table")] == ["1", "2"]
    assert f"{history[1]['train_loss']:.4f}" in cells(browser, "#curves table")[1]
    cards = {c.find_element("tag name", "span").text: c.text for c in browser.all(".card")}
    assert f"{metrics['test']['accuracy']:.4f}" in cards["accuracy"]
    assert f"{metrics['test']['samples']} images" in cards["accuracy"]
    assert "of 2" in cards["best epoch"]


def test_every_mistake_is_shown_with_its_image(run: Path, page: Path, browser: Browser) -> None:
    confusion = np.array(read(run, "metrics.json")["test"]["confusion"])
    wrong = int(confusion.sum() - confusion.trace())
    assert wrong > 0, "the run is meant to err"
    browser.open(page)
    browser.run("for (const d of document.querySelectorAll('details')) d.open = true")
    shots = browser.run(
        "return [...document.querySelectorAll('.shot img')].map(i => [i.complete, i.naturalWidth, i.alt, "
        "i.closest('.shot').innerText])"
    )
    assert all(complete and width == 96 for complete, width, _, _ in shots)
    assert f"{wrong} of {confusion.sum()} images wrong" in browser.one("#mistakes h2").text
    mistakes = [text for *_, text in shots if "true" in text]
    assert len(mistakes) == min(wrong, 24)
    files = {alt for _, _, alt, _ in shots}
    assert all(re.fullmatch(r"test/.+/\d+ \"'><b>\.png", alt) for alt in files)
    losses = [float(re.search(r"loss ([\d.]+)", text)[1]) for text in mistakes]  # type: ignore[index]
    assert losses == sorted(losses, reverse=True)


def test_pictures_are_what_the_model_says_of_them(run: Path, images: Path, page: Path, browser: Browser) -> None:
    browser.open(page)
    shown = browser.run(
        "return [...document.querySelectorAll('#mistakes > .shots .shot')].map(s => [s.querySelector('img').alt, "
        "s.innerText])"
    )
    for alt, text in shown[:3]:
        answer = zoo.predict(run, images / alt)[0]
        assert re.search(rf"answered\s*{re.escape(answer['label'])} {answer['probability']:.3f}", text)
        assert Path(alt).parent.name in text


def test_toggle_and_sorting(run: Path, page: Path, browser: Browser) -> None:
    confusion = np.array(read(run, "metrics.json")["test"]["confusion"])
    browser.open(page)
    browser.one("label[for='cells-share']").click()
    shares = cells(browser, "table.matrix")[0][1:]
    first = confusion[0] / confusion[0].sum() * 100
    assert [int(s.removesuffix(" %").replace("< ", "")) for s in shares] == [round(v) for v in first]
    browser.one("label[for='cells-counts']").click()
    assert [int(cell) for cell in cells(browser, "table.matrix")[0][1:]] == confusion[0].tolist()

    def column() -> list[float]:
        return [float(row[-1]) if row[-1] != "–" else -1.0 for row in cells(browser, "#classes table")]

    before = column()
    button = browser.all("#classes thead th button")[-1]
    button.click()
    assert column() == sorted(before)
    button.click()
    assert column() == sorted(before, reverse=True)
    assert browser.all("#classes thead th")[-1].get_attribute("aria-sort") == "descending"


def test_works_without_javascript(page: Path, browser: Browser) -> None:
    browser.look(scripts=False)
    browser.driver.get(page.resolve().as_uri())
    assert browser.all("#classes thead button") == []
    visible = [e for e in browser.all("table.matrix .share") if e.is_displayed()]
    assert visible == []
    browser.one("label[for='cells-share']").click()
    assert all(e.is_displayed() for e in browser.all("table.matrix .share"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_fits_the_window_and_can_be_read(page: Path, browser: Browser, scheme: str, width: int) -> None:
    browser.open(page)
    browser.look(width, scheme)
    assert browser.run("return document.documentElement.scrollWidth") == width
    contrast = """
        const lum = c => { const v = c.match(/[\\d.]+/g).slice(0, 3).map(x => x / 255)
            .map(x => x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4);
            return .2126 * v[0] + .7152 * v[1] + .0722 * v[2]; };
        const back = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
            if (!/, 0\\)|transparent/.test(c) && !/rgba/.test(c)) return c; } return 'rgb(255,255,255)'; };
        const looked = 'h1, h2, h2 small, p, dt, dd, #metrics td, nav a, .where, td.l10';
        return [...document.querySelectorAll(looked)].map(e => {
            const [a, b] = [lum(getComputedStyle(e).color), lum(back(e))];
            return [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), e.tagName + ' ' + e.className]; });
    """
    for ratio, what in browser.run(contrast):
        assert ratio >= 4.5, what
    lightness = sum(map(int, re.findall(r"\d+", browser.run("return getComputedStyle(document.body).backgroundColor"))))
    assert (lightness > 600) == (scheme == "light")


def test_values_appear_under_the_mouse(run: Path, page: Path, browser: Browser) -> None:
    from selenium.webdriver import ActionChains

    history = read(run, "history.json")
    browser.open(page)
    places = browser.all("#curves figure:first-child .at")
    assert len(places) == 2
    tip = places[1].find_element("css selector", ".tip")
    assert not tip.is_displayed()
    ActionChains(browser.driver).move_to_element(places[1].find_element("css selector", ":scope > rect")).perform()
    assert tip.is_displayed()
    assert f"validation: {history[1]['val_loss']:.4f}" in tip.text
    said = browser.one("#curves figure:first-child desc").get_attribute("textContent")
    assert f"training: {history[0]['train_loss']:.4f} at epoch 1" in said


# --- what is in it ----------------------------------------------------------------------------------------------------


def test_the_same_run_gives_the_same_bytes(run: Path, page: Path, images: Path, tmp_path: Path) -> None:
    other = zoo.report(run, tmp_path / "sub" / "other.html", data=images)
    assert other == tmp_path / "sub" / "other.html"
    assert other.read_bytes() == page.read_bytes()
    assert page == run / "report.html"
    assert not list(run.glob("*.tmp-*"))


def test_the_run_says_itself_where_its_data_is(run: Path, images: Path, tmp_path: Path) -> None:
    given = read(run, "args.json")["given"]
    assert given["data"] == str(images.resolve())
    assert '<figure class="shot' in zoo.report(run, tmp_path / "itself.html").read_text()


def test_without_the_data_it_says_so(run: Path, images: Path, tmp_path: Path) -> None:
    html = zoo.report(run, tmp_path / "a.html", data=False).read_text()
    assert "made without the data" in html
    assert '<figure class="shot' not in html
    assert 'class="matrix"' in html
    copied = tmp_path / "run"
    shutil.copytree(run, copied)
    args = read(run, "args.json")
    gone = {**args, "given": {**(args.get("given") or {}), "data": str(tmp_path / "gone"), "val": None}}
    (copied / "args.json").write_text(json.dumps(gone))
    assert "No data at &#39;" in zoo.report(copied).read_text()
    (copied / "args.json").write_text(json.dumps({**gone, "given": {"data": str(images), "val": None}}))
    assert '<figure class="shot' in zoo.report(copied).read_text()
    (copied / "args.json").write_text(json.dumps({k: v for k, v in args.items() if k != "given"}))
    assert "does not say where its data is" in zoo.report(copied).read_text()


def test_other_data_is_refused(run: Path, images: Path) -> None:
    with pytest.raises(DataError, match="digits is not the data of this run, or has changed since"):
        zoo.report(run, data="digits")
    with pytest.raises(DataError, match="no data at 'nowhere'"):
        zoo.report(run, data="nowhere")


def test_built_in_data_is_found_and_a_module_brings_its_model(tmp_path: Path) -> None:
    result = zoo.finetune(tiny_net(), "digits", out=tmp_path, **{**QUICK, "batch_size": 128, "epochs": 1})
    assert "holds the weights alone" in zoo.report(tmp_path).read_text()
    before = {k: v.clone() for k, v in result.model.state_dict().items()}
    other = tiny_net(seed=5)
    html = zoo.report(tmp_path, model=other).read_text()
    wrong = 360 - np.trace(result.test_metrics["confusion"])  # type: ignore[index]
    assert f"{wrong} of 360 images wrong" in html
    assert f"expected error {result.test_metrics['ece']:.4f}" in html  # type: ignore[index]
    assert torch.equal(other.fc.weight, tiny_net(seed=5).fc.weight)
    assert all(torch.equal(v, before[k]) for k, v in result.model.state_dict().items())


def test_several_labels_an_image(tmp_path: Path, browser: Browser) -> None:
    random = np.random.RandomState(0)
    labels = (random.rand(120, 3) < 0.4).astype(np.int64)
    pixels = (40 + 60 * labels[:, None, None, :] + random.randint(0, 40, (120, 16, 16, 3))).astype(np.uint8)
    names = ["red", HOSTILE, "blue"]
    whole = ArrayImages(pixels, labels, names, name="lights")
    parts = {n: whole.subset(range(*ends), n) for n, ends in (("train", (0, 80)), ("test", (80, 120)))}
    data = Splits("lights", parts["train"], None, parts["test"])
    options: dict[str, Any] = {**QUICK, "img_size": 32, "lr": 1e-3}
    result = zoo.finetune("test_resnet", data, out=tmp_path, **options)
    browser.open(zoo.report(tmp_path, data=data))
    rows = {row[0]: row[1:] for row in cells(browser, "#classes table")}
    scores = {a["image"]: a["top"] for a in zoo.predict(result.model, list(pixels[80:]), 3)}
    for k, name in enumerate(names):
        p = np.array([next(b["probability"] for b in scores[str(i)] if b["index"] == k) for i in range(40)])
        true = labels[80:, k]
        assert float(rows[name][-1]) == pytest.approx(sk.roc_auc_score(true, p), abs=2e-4)
        f1 = rows[name][-2].replace("–", "0")
        assert float(f1) == pytest.approx(sk.f1_score(true, p > 0.5, zero_division=0), abs=1e-4)
    chosen = (np.array([[b["probability"] > 0.5 for b in sorted(scores[str(i)], key=lambda b: b["index"])]
                        for i in range(40)]) == labels[80:]).all(1)  # fmt: skip
    assert f"{int((~chosen).sum())} of 40 images not wholly right" in browser.one("#mistakes h2").text
    assert browser.all("#confusion, #calibration") == []
    assert browser.said() == []


def test_many_classes_and_epochs_stay_small_and_readable(run: Path, tmp_path: Path, browser: Browser) -> None:
    k, epochs, random = 300, 1000, np.random.RandomState(0)
    args = read(run, "args.json")
    names = [f"class number {i} with a long name, {HOSTILE}" for i in range(k)]
    args["data"]["classes"], args["options"]["epochs"] = names, epochs
    args.pop("given", None)
    counts = random.poisson(0.3, (k, k)) + np.diag(random.poisson(50, k))
    counts[7, 9] = 500
    test = {**read(run, "metrics.json")["test"], "samples": int(counts.sum()), "confusion": counts.tolist()}
    row = read(run, "history.json")[0]
    shutil.copytree(run / "best", tmp_path / "best")
    for name, content in (
        ("args.json", args),
        ("metrics.json", {"best_epoch": 873, "classes": names, "test": test}),
        ("history.json", [{**row, "epoch": e, "train_loss": 1 / e, "best": "val" if e == 873 else ""}
                          for e in range(1, epochs + 1)]),
    ):  # fmt: skip
        (tmp_path / name).write_text(json.dumps(content))
    page = zoo.report(tmp_path)
    assert page.stat().st_size < 5e6
    browser.open(page)
    assert browser.all("table.matrix") == []
    pairs = cells(browser, "#pairs")
    assert pairs[0][2:] == ["500", f"{500 / counts[7].sum() * 100:.1f} %"]
    assert pairs[0][0].startswith("class number 7 ")
    assert pairs[0][1].startswith("class number 9 ")
    assert len(browser.all(".heat rect")) == 10_001
    assert "cells with the smallest counts are not drawn" in browser.one("#confusion").text
    assert "One epoch in 5 is drawn" in browser.one("#curves").text
    assert len(browser.all("#curves figure:first-child .at")) in (201, 202)
    assert browser.run("return document.documentElement.scrollWidth") == 1200
    assert browser.said() == []


def test_an_unfinished_run(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "metrics.json").unlink()
    html = zoo.report(tmp_path / "run").read_text()
    assert "The run is not finished: 2 of 2 epochs are done." in html
    assert "Confusion matrix" not in html
    (tmp_path / "run" / "history.json").unlink()
    with pytest.raises(TrainingError, match="has not finished an epoch yet"):
        zoo.report(tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "there is no folder '.*nowhere'; zoo.report takes a run's folder"),
        (".", "no run of zoo.finetune is in"),
    ],
)
def test_what_is_no_run(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        zoo.report(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_damage_and_bad_numbers_are_named(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "metrics.json").write_text("{")
    with pytest.raises(TrainingError, match=r"metrics\.json is damaged"):
        zoo.report(tmp_path / "run")
    with pytest.raises(ValueError, match="worst must be a whole number from 0, got -1"):
        zoo.report(run, worst=-1)
    with pytest.raises(ValueError, match="batch_size must be"):
        zoo.report(run, batch_size=0)
    with pytest.raises(TypeError, match="did you mean 'worst'"):
        zoo.report(run, worts=3)  # type: ignore[call-arg]


def test_a_composition_names_its_parts(tmp_path: Path, browser: Browser) -> None:
    options: dict[str, Any] = {**QUICK, "epochs": 1, "img_size": 32, "freeze": "backbone", "val": False}
    parts = {"head": {"type": "kan", "grid_size": 4}, "in_chans": 1}
    zoo.finetune("test_resnet", few_digits(), out=tmp_path, model_args=parts, **options)
    browser.open(zoo.report(tmp_path, data=False))
    assert cells(browser, "#what table") == [["head", "kan", "grid_size = 4"]]
    facts = {
        d.find_element("tag name", "dt").text: d.find_element("tag name", "dd").text for d in browser.all(".facts div")
    }
    assert facts["started from"].startswith("test_resnet")
    assert facts["frozen"] == "backbone"
    config = read(tmp_path, "best/config.json")
    assert facts["parameters"] == f"{config['zoo']['params']:,}"
    assert facts["torch"] == torch.__version__


@pytest.mark.ci_long
def test_a_comparison_is_one_page(tmp_path: Path, browser: Browser) -> None:
    options: dict[str, Any] = {**QUICK, "epochs": 2, "img_size": 32, "seeds": 2, "model_args": {"in_chans": 1}}
    comparison = zoo.compare("test_resnet", few_digits(), head=["none", "kan"], out=tmp_path / "it", **options)
    inner = comparison.rows[1].runs[0].folder
    zoo.report(inner, data=few_digits())
    browser.open(zoo.report(tmp_path / "it"))
    assert browser.one("h1").text == "test_resnet on few"
    rows = cells(browser, "#variants table")
    assert [row[0] for row in rows] == [row.variant for row in comparison.rows]
    assert [row[1] for row in rows] == [f"{row.mean:.4f} ± {row.std:.4f}" for row in comparison.rows]
    assert [row[3] for row in rows] == [f"{row.params:,}" for row in comparison.rows]
    assert len(browser.all("#curves svg.chart")) == 2
    assert len(browser.all("#curves figure:first-child .line")) == 2
    assert [len(s.find_elements("css selector", ".one")) for s in browser.all("svg.spread")] == [2, 2]
    links = browser.all("#runs a")
    assert [link.text for link in links] == [inner.relative_to(tmp_path / "it").as_posix()]
    assert browser.said() == []
    links[0].click()
    assert browser.one("h1").text == inner.name


# --- the command that does it again -----------------------------------------------------------------------------------


def test_the_command_trains_the_same_again(run: Path, images: Path, tmp_path: Path) -> None:
    text = command(read_run(run))
    words = shlex.split(text)
    assert words[:3] == ["zoo", "train", "test_resnet"]
    words[3] = str(images)
    result = CliRunner().invoke(app, [*words[1:], "--out", str(tmp_path / "again"), "--quiet"])
    assert result.exit_code == 0, result.output
    assert read(tmp_path / "again", "args.json")["options"] == read(run, "args.json")["options"]
    assert read(tmp_path / "again", "metrics.json") == read(run, "metrics.json")


def test_the_command_says_every_kind_of_setting(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "history.json").write_text((run / "history.json").read_text())
    args = read(run, "args.json")

    def said(given: dict[str, Any] | None = None, **options: Any) -> str:
        changed = {**args, "options": {**args["options"], **options}, "given": given or {}}
        (folder / "args.json").write_text(json.dumps(changed))
        return command(read_run(folder))

    text = said(
        {"model": "hf-hub:me/it", "data": "my images", "val": 0.1, "pretrained": False},
        freeze=["stem.*", "a b"],
        unfreeze={"3": "blocks:-4", "6": None},
        class_weights=[1.0, 2.5, 1.0],
        model_args={"head": {"type": "kan"}, "mlp": {"type": "kan", "where": "last:4"}, "drop_path_rate": 0.1},
        clip_grad=None,
    )
    words = shlex.split(text)
    assert words[:4] == ["zoo", "train", "hf-hub:me/it", "my images"]
    pairs = list(itertools.pairwise(words))
    for pair in (
        ("--freeze", "stem.*"),
        ("--freeze", "a b"),
        ("--unfreeze", "3:blocks:-4"),
        ("--unfreeze", "6:none"),
        ("--class-weights", "1.0,2.5,1.0"),
        ("--head", "kan"),
        ("--mlp", '{"type": "kan", "where": "last:4"}'),
        ("--model-arg", "drop_path_rate=0.1"),
        ("--clip-grad", "0"),
        ("--val", "0.1"),
    ):
        assert pair in pairs
    assert "--from-scratch" in words
    assert shlex.split(said({"val": False}))[3] == "DATA"
    assert ("--val", "no") in list(itertools.pairwise(shlex.split(said({"val": False}))))
    assert said(scale=4095.0, model="mine").startswith("zoo.finetune(MODEL, DATA, model_args={'in_chans': 1}, ")
    assert "scale=4095.0" in said(scale=4095.0)


def test_what_a_run_was_begun_with_is_said_and_repeated(images: Path, tmp_path: Path) -> None:
    """Names with and without weights, a share for validation, unreadable images, settings that were derived."""
    (tmp_path / "mine").mkdir()
    shutil.copytree(images / "train", tmp_path / "mine", dirs_exist_ok=True)
    (next((tmp_path / "mine").iterdir()) / "broken.png").write_text("no image")
    options: dict[str, Any] = {**QUICK, "epochs": 1, "img_size": 32, "lr": "auto", "amp": "auto"}
    run = tmp_path / "run"
    zoo.finetune("test_resnet", tmp_path / "mine", out=run, val=0.4, on_bad="skip", class_weights="balanced", **options)
    words = shlex.split(command(read_run(run)))
    pairs = list(itertools.pairwise(words))
    for pair in (("--val", "0.4"), ("--on-bad", "skip"), ("--class-weights", "balanced")):
        assert pair in pairs
    assert not {"--lr", "--amp", "--hflip", "--pretrained", "--from-scratch"} & {*words}
    assert changed_settings(read_run(run)) == {"epochs", "batch_size", "img_size", "val", "on_bad", "class_weights"}
    for data in (None, tmp_path / "mine"):
        html = zoo.report(run, data=data).read_text()
        assert '<figure class="shot' in html
        assert "test_resnet, random weights" in html
        assert "is in capitals" not in html
    zoo.finetune(run, images, out=tmp_path / "next", pretrained=False, **options)
    assert "--from-scratch" in command(read_run(tmp_path / "next"))
    zoo.finetune(run, images, out=tmp_path / "third", **options)
    html = zoo.report(tmp_path / "third", data=False).read_text()
    assert f"{run}, its weights" in html


def test_objects_are_in_capitals(tmp_path: Path) -> None:
    digits, options = few_digits(), {**QUICK, "epochs": 1, "out": tmp_path / "run"}
    result = zoo.finetune(tiny_net(), "digits", val=digits.val, **{**options, "batch_size": 128})
    assert shlex.split(command(read_run(tmp_path / "run")))[:4] == ["zoo", "train", "MODEL", "digits"]
    assert ("--val", "VAL") in list(itertools.pairwise(shlex.split(command(read_run(tmp_path / "run")))))
    html = zoo.report(tmp_path / "run", model=result.model).read_text()
    assert "in capitals: MODEL, VAL" in html
    assert "a module with the weights that it had" in html
    assert "was validated on a " in html
    assert '<figure class="shot' in zoo.report(tmp_path / "run", val=digits.val, model=result.model).read_text()


@pytest.mark.parametrize(
    ("model", "pretrained", "expected"),
    [
        ("resnet18", None, False),
        ("resnet18.a1_in1k", None, True),
        ("resnet18.a1_in1k", False, False),
        ("resnet18", True, True),
        ("hf-hub:me/it", None, True),
    ],
)
def test_whether_a_run_starts_from_weights(model: str, pretrained: bool | None, expected: bool) -> None:
    assert starts_from_weights(model, pretrained) is expected


def test_command_line(run: Path, images: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["report", str(run), "--out", str(tmp_path / "r.html"), "--data", str(images), "--worst", "1"]
    )
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(tmp_path / "r.html")
    html = (tmp_path / "r.html").read_text()
    assert html.count('<figure class="shot">') == 1
    assert html.count('<figure class="shot fine">') == 1
    failed = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert failed.exit_code == 1
    assert failed.stderr.startswith("error: no run of zoo.finetune is in")
    both = CliRunner().invoke(app, ["report", str(run), "--data", "digits", "--no-data"])
    assert both.exit_code == 2


# --- the numbers ------------------------------------------------------------------------------------------------------


def test_class_rows_equal_sklearn() -> None:
    random = np.random.RandomState(0)
    true, answered = random.randint(0, 5, 200), random.randint(0, 4, 200)
    true[true == 2] = 1
    confusion = sk.confusion_matrix(true, answered, labels=range(6))
    precision, recall, f1, support = sk.precision_recall_fscore_support(
        true, answered, labels=range(6), zero_division=np.nan
    )
    rows = class_rows(confusion.tolist(), list("abcdef"))
    assert [row.support for row in rows] == support.tolist()
    for row, p, r in zip(rows, precision, recall, strict=True):
        assert (row.precision is None) == np.isnan(p)
        assert (row.recall is None) == np.isnan(r)
        assert row.precision is None or row.precision == pytest.approx(p)
        assert row.recall is None or row.recall == pytest.approx(r)
    assert [row.f1 for row in rows if row.f1 is not None] == pytest.approx(f1[:5].tolist())
    assert rows[5].f1 is None


@pytest.mark.parametrize("seed", range(3))
def test_auroc_with_ties_equals_sklearn(seed: int) -> None:
    random = np.random.RandomState(seed)
    scores, true = random.randint(0, 6, 80) / 5, random.rand(80) < 0.3
    assert auroc(scores, true) == pytest.approx(sk.roc_auc_score(true, scores), abs=1e-12)
    assert auroc(scores, np.zeros(80, dtype=bool)) is None


def test_calibration_error_equals_the_metric() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(4, (500,), generator=generator)
    logits = torch.randn(500, 4, generator=generator) + 1.5 * torch.nn.functional.one_hot(targets, 4)
    bins = calibration(logits.double().softmax(1).numpy(), targets.numpy())
    assert calibration_error(bins) == pytest.approx(classification_metrics(logits, targets)["ece"], abs=1e-6)
    assert sum(count for *_, count in bins) == 500


def test_largest_confusions() -> None:
    counts = [[5, 3, 0], [7, 0, 1], [3, 0, 9]]
    assert largest_confusions(counts, 3) == [(1, 0, 7, 7 / 8), (0, 1, 3, 3 / 8), (2, 0, 3, 0.25)]
    assert largest_confusions([[4, 0], [0, 2]], 5) == []


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.123, 0.1234), (-3, 1000), (1e-6, 2e-4), (1, 2)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    found = ticks(low, high, 5)
    assert 2 <= len(found) <= 7
    assert all(low - 1e-9 * abs(high) <= t <= high * (1 + 1e-9) for t in found)
    steps = np.diff(found)
    assert np.allclose(steps, steps[0])
    assert f"{steps[0]:.1e}"[:3] in ("1.0", "2.0", "2.5", "5.0")


def test_a_chart_of_one_point_of_equal_values_and_of_many() -> None:
    for points in ([(1, 0.5)], [(1, 0.0), (2, 0.0)], [(e, 1 / e) for e in range(1, 1001)]):
        svg = str(line_chart("<x>", [Line("a & b", points, "a"), Line("none", [], "b")]))
        assert "nan" not in svg
        assert "&lt;x&gt;" in svg
        assert svg.count('class="at"') == len(points) if len(points) < 200 else svg.count('class="at"') <= 201
        assert svg.count('class="line') == 1  # no legend, no second line
    assert (thinned(200), thinned(201), thinned(1000)) == (1, 2, 5)


@pytest.mark.parametrize(
    "image",
    [
        Image.new("L", (300, 200), 90),
        Image.new("RGBA", (300, 200), (200, 0, 0, 0)),
        Image.new("P", (30, 20)),
        Image.new("CMYK", (30, 20)),
        Image.new("I;16", (30, 20), 4000),
        Image.fromarray(np.linspace(-5, 9000, 600, dtype=np.float32).reshape(20, 30)),
        np.zeros((20, 30, 13), dtype=np.uint16),
        np.ones((20, 30), dtype=bool),
        torch.randn(3, 20, 30),
        torch.full((1, 20, 30), float("nan")),
        np.zeros((1, 4000, 3), dtype=np.uint8),
    ],
    ids=["grey", "transparent", "palette", "cmyk", "16-bit", "float", "13 bands", "mask", "tensor", "nan", "thin"],
)
def test_every_kind_of_image_has_a_thumbnail(image: Any) -> None:
    address, width, height = data_uri(image)
    kind, _, text = address.partition(";base64,")
    assert kind in ("data:image/png", "data:image/jpeg")
    picture = Image.open(io.BytesIO(base64.b64decode(text)))
    assert picture.size == (width, height)
    assert max(width, height) <= 128
    size = image.size if isinstance(image, Image.Image) else None
    if size == (300, 200):
        assert (width, height) == (128, 85)
        # Transparent is white.
        assert picture.convert("L").getpixel((5, 5)) == (90 if image.mode == "L" else 255)
    elif isinstance(image, np.ndarray) and image.dtype == bool:
        assert picture.getextrema() == (255, 255)
    elif isinstance(image, torch.Tensor) and image.shape[0] == 3:
        values = image.numpy()
        wanted = (values - values.min()) / (values.max() - values.min()) * 255
        assert np.abs(np.asarray(picture).transpose(2, 0, 1) - wanted).max() <= 0.5001
