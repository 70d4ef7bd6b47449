"""The app is used as people use it: a real server, a real browser, an image put into the page."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import zoo
import zoo.serving
from tests.browser import Browser
from tests.training.helpers import few_digits
from zoo.cli import app as command_line
from zoo.errors import DataError, MissingExtraError

pytest_plugins = ["tests.browser"]

MODEL = "medvit2_kan_nano.digits"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits as people have them, and a text that calls itself an image."""
    root = tmp_path_factory.mktemp("images")
    splits = few_digits()
    assert splits.test
    digit = Image.fromarray(splits.test.image(0))
    digit.save(root / "a_[digit]*.png")
    Image.fromarray(splits.test.image(1)).save(root / "other.png")
    colours = digit.convert("RGBA")
    colours.putalpha(200)
    colours.save(root / "rgba.png")
    Image.fromarray(np.asarray(digit).astype(np.uint16) * 257).save(root / "sixteen.png")
    (root / "text.png").write_text("not an image")
    (root / "cut.png").write_bytes((root / "a_[digit]*.png").read_bytes()[:60])
    return root


class Server:
    """`zoo app` in a process of its own, with its words."""

    def __init__(self, *arguments: str, **environment: str):
        command = [sys.executable, "-u", "-m", "zoo", "app", *arguments]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
        )
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline().strip()
        self.address = self.line.rpartition(" at ")[2]

    def end(self, number: signal.Signals) -> tuple[int, str]:
        """Send a signal; the exit code, and what was written on stderr."""
        self.process.send_signal(number)
        try:
            _, err = self.process.communicate(timeout=30)
        finally:
            self.process.kill()
        return self.process.returncode, err


class Recorder:
    """A proxy that lets nothing through and notes who wanted out."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.asked: list[bytes] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                self.asked.append(connection.recv(200))


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.socket.close()


@pytest.fixture(scope="module")
def server(folder: Path, recorder: Recorder) -> Iterator[Server]:
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), recorder.address)
    server = Server(MODEL, "--top", "3", "--examples", str(folder / "other.png"), "--title", "<b>digits</b> & more",
                    NO_PROXY="127.0.0.1,localhost", no_proxy="127.0.0.1,localhost", **proxies)  # fmt: skip
    yield server
    if server.process.poll() is None:
        server.end(signal.SIGKILL)


def put(browser: Browser, file: Path) -> None:
    """Give a file to the page as a click on the field would."""
    browser.wait(lambda: browser.all("input[type=file]"), "the field for files")
    browser.all("input[type=file]")[0].send_keys(str(file))


def answers(browser: Browser) -> dict[str, str]:
    """Label -> percentage, as they stand in the page at this moment."""
    found = browser.run(
        "return [...document.querySelectorAll('#answer [data-testid$=confidence-set]')].map(e => e.innerText)"
    )
    lines = [text.split("\n") for text in found]
    return {line[0]: line[-1] for line in lines if len(line) > 1}


@pytest.mark.ci_long
class TestPage:
    """One server for all."""

    def test_a_digit_gets_the_answer_of_predict(self, server: Server, browser: Browser, folder: Path) -> None:
        assert server.line.startswith(f"{MODEL} at http://127.0.0.1:")
        browser.open(server.address)
        put(browser, folder / "a_[digit]*.png")
        shown = browser.wait(lambda: answers(browser), "the answer")
        (wanted,) = zoo.predict(MODEL, folder / "a_[digit]*.png", 3)
        assert shown == {best["label"]: f"{round(best['probability'] * 100)}%" for best in wanted["top"]}
        assert browser.one("#answer [data-testid=label-output-value]").text == wanted["label"]
        assert browser.text("#status") == "a_[digit]*.png"
        assert browser.one("h1").text == "<b>digits</b> & more"

    def test_odd_images(self, server: Server, browser: Browser, folder: Path) -> None:
        for name in ("rgba.png", "sixteen.png"):
            browser.open(server.address)
            put(browser, folder / name)
            shown = browser.wait(lambda: answers(browser), f"the answer to {name}")
            (wanted,) = zoo.predict(MODEL, folder / name, 3)
            assert shown == {best["label"]: f"{round(best['probability'] * 100)}%" for best in wanted["top"]}

    @pytest.mark.parametrize("name", ["text.png", "cut.png"])
    def test_what_is_no_image_gets_a_message(self, server: Server, browser: Browser, folder: Path, name: str) -> None:
        browser.open(server.address)
        put(browser, folder / name)
        browser.wait(lambda: "No answer." in browser.text("#status"), "the message")
        assert browser.text("#status").startswith(f"No answer. Cannot read the image {name} (")
        assert "/tmp" not in browser.text("#status")
        assert answers(browser) == {}
        # The page goes on.
        browser.open(server.address)
        put(browser, folder / "other.png")
        assert browser.wait(lambda: answers(browser), "the answer")

    def test_an_example_is_tried_by_a_click(self, server: Server, browser: Browser, folder: Path) -> None:
        browser.open(server.address)
        browser.wait(lambda: browser.all(".gallery-item"), "the examples")
        browser.run("document.querySelector('.gallery-item').click()")
        shown = browser.wait(lambda: answers(browser), "the answer")
        (wanted,) = zoo.predict(MODEL, folder / "other.png", 3)
        assert next(iter(shown)) == wanted["label"]
        # After it, a file is still taken as it came.
        browser.run("document.querySelector(\"[aria-label='Clear'], [aria-label='Remove Image']\").click()")
        browser.wait(lambda: not answers(browser), "the empty page")
        put(browser, folder / "text.png")
        browser.wait(lambda: "Cannot read the image text.png" in browser.text("#status"), "the message")

    def test_the_model_is_described(self, server: Server, browser: Browser) -> None:
        browser.open(server.address)
        browser.wait(lambda: browser.all("button.label-wrap"), "the page")
        browser.run("document.querySelector('button.label-wrap').click()")
        text = " ".join(browser.wait(lambda: browser.text("#about"), "the facts").split())
        assert "parameters 1,039,285" in text
        assert "classes 10: 0, 1, 2" in text
        assert "input 3 × 32 × 32" in text

    def test_nothing_leaves_the_machine(self, server: Server, browser: Browser, recorder: Recorder) -> None:
        browser.open(server.address)
        browser.wait(lambda: browser.all("input[type=file]"), "the page")
        outside = [a for a in browser.requested() if not a.startswith((server.address, "data:", "blob:"))]
        assert outside == []
        assert recorder.asked == []

    def test_it_answers_to_this_machine_alone(self, server: Server) -> None:
        port = int(server.address.rstrip("/").rpartition(":")[2])
        own = {i[4][0] for i in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}
        for address in own:
            with pytest.raises(OSError), socket.create_connection((address, port), 2):  # noqa: PT011
                pass
        with socket.create_connection(("127.0.0.1", port), 2):
            pass

    def test_it_ends_on_sigterm(self, server: Server) -> None:
        code, err = server.end(signal.SIGTERM)
        assert code == 143
        assert "Traceback" not in err


@pytest.mark.ci_long
def test_ctrl_c_and_a_port_that_is_taken() -> None:
    server = Server(MODEL)
    port = server.address.rstrip("/").rpartition(":")[2]
    command = [sys.executable, "-m", "zoo", "app", MODEL, "--port", port]
    taken = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert taken.returncode == 1
    assert f"error: port {port} is taken at 127.0.0.1; choose another (--port), or leave it out" in taken.stderr
    assert "Traceback" not in taken.stderr
    code, err = server.end(signal.SIGINT)
    assert code == 130
    assert err.strip().splitlines()[-1] == "stopped"
    assert "Traceback" not in err


# --- without a server -------------------------------------------------------------------------------------------------


@pytest.fixture
def digits_model() -> torch.nn.Module:
    return zoo.create_model(MODEL, pretrained=True)


#: In a process of its own, for Gradio leaves event loops open.
IN_PYTHON = """
import json, sys, zoo
from pathlib import Path

def ask(page, path):
    function = next(f for f in page.fns.values() if f.api_name == "predict").fn
    return function((path, Path(path).name))[0]

path = sys.argv[1]
model = zoo.create_model("medvit2_kan_nano.digits", pretrained=True)
model.zoo_multi_label = True
page = zoo.app(model, top=10)
found = {
    "told": page.analytics_enabled,
    "several": ask(page, path),
    "wanted": {b["label"]: b["probability"] for b in zoo.predict(model, path, 10, multi_label=True)[0]["top"]},
    "one": ask(zoo.app(model, top=10, multi_label=False), path),
}
model.pretrained_cfg["label_names"] = ["crane"] * 2 + list("cdefghij")
found["cranes"] = ask(zoo.app(model, top=10), path)
print(json.dumps(found))
"""


def test_several_labels_and_labels_of_the_same_name(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_PYTHON, str(folder / "other.png")], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["several"] == found["wanted"]
    assert sum(found["several"].values()) != pytest.approx(1, abs=1e-3)
    assert sum(found["one"].values()) == pytest.approx(1, abs=1e-5)
    assert {"crane (0)", "crane (1)", "c"} <= set(found["cranes"])
    assert len(found["cranes"]) == 10
    assert found["told"] is False
    assert not list(Path(zoo.serving.__file__).parent.glob("**/*.pyi")), "Gradio has written into the package"


def test_what_cannot_be_shown_is_refused(digits_model: torch.nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="top must be a whole number from 1, got 0"):
        zoo.app(digits_model, top=0)
    with pytest.raises(DataError, match=r"no such example: '.*none\.png'"):
        zoo.app(digits_model, examples=[tmp_path / "none.png"])
    with pytest.raises(DataError, match="no images in"):
        zoo.app(digits_model, examples=tmp_path)
    with pytest.raises(TypeError, match="did you mean 'title'"):
        zoo.app(digits_model, titel="x")  # type: ignore[call-arg]
    digits_model.reset_classifier(0)  # type: ignore[operator]
    with warnings.catch_warnings(), pytest.raises(DataError, match="has no classifier"):
        warnings.simplefilter("ignore")
        zoo.app(digits_model)


def test_bags_are_refused() -> None:
    for name in ("hopfield_mnist_bags.fashion", "deeprc_cnn"):
        model = zoo.create_model(name, pretrained="." in name)
        with pytest.raises(
            DataError, match=r"takes bags of instances, and the page shows one image at a time; zoo\.predict"
        ):
            zoo.app(model)


def test_without_gradio(digits_model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(MissingExtraError, match=r"zoo-layers\[app\]"):
        zoo.app(digits_model)
    result = CliRunner().invoke(command_line, ["app", MODEL])
    assert result.exit_code == 1
    assert (
        result.stderr == "error: zoo.app needs the package 'gradio'; install it with: pip install 'zoo-layers[app]'\n"
    )


def test_the_files_of_a_space(hub: Any, tmp_path: Path) -> None:
    repo = hub.repo_id("nano")
    zoo.push_to_hub(zoo.create_model(MODEL, pretrained=True), repo, token=hub.token, license="apache-2.0")
    done = CliRunner().invoke(
        command_line, ["app", f"hf-hub:{repo}", "--save", str(tmp_path / "space"), "--title", "Nano"]
    )
    assert done.exit_code == 0, done.output
    commit = zoo.create_model(f"hf-hub:{repo}").zoo_source["commit"]
    assert f'zoo.app("hf-hub:{repo}@{commit}").launch()' in (tmp_path / "space" / "app.py").read_text()
    assert "title: Nano" in (tmp_path / "space" / "README.md").read_text().replace('"', "")
    assert {Path(line).name for line in done.stdout.split()} == {"README.md", "app.py", "requirements.txt"}
    refused = CliRunner().invoke(command_line, ["app", MODEL, "--save", str(tmp_path / "no")])
    assert refused.exit_code == 1
    assert "a Space shows a model that is on the Hub" in refused.stderr
    assert not (tmp_path / "no").exists()
