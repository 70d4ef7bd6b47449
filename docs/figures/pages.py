"""Draws docs/assets/report.png and docs/assets/app.png in a real browser: `python -m docs.figures.pages`."""

from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from sklearn.datasets import load_digits

import zoo
from tests.browser import Browser, start_browser

ASSETS = Path(__file__).parents[1] / "assets"


def shrunk(path: Path) -> None:
    """Few colours: a page has no more."""
    with Image.open(path) as image:
        image.convert("RGB").quantize(64).save(path, optimize=True)


def draw_report(browser: Browser, folder: Path) -> None:
    zoo.finetune("medvit2_kan_nano", "digits", out=folder / "digits", epochs=6, progress=False)
    browser.open(zoo.report(folder / "digits"))
    # The page as it is, without the sections that are tables alone.
    browser.run("for (const e of document.querySelectorAll('#what, #metrics, #classes, #calibration')) e.remove()")
    browser.screenshot(ASSETS / "report.png", height=1400)
    shrunk(ASSETS / "report.png")


def draw_app(browser: Browser, folder: Path) -> None:
    files = []
    for number in (3, 8, 14):
        files.append(folder / f"{number}.png")
        picture = Image.fromarray((load_digits().images[number] * (255 / 16)).astype("uint8"))
        picture.resize((256, 256)).save(files[-1])
    page = zoo.app("medvit2_kan_nano.digits", examples=files)
    _, address, _ = page.launch(quiet=True, prevent_thread_lock=True)
    browser.open(address)
    browser.look(1000)
    browser.wait(lambda: browser.all("input[type=file]"), "the page")[0].send_keys(str(files[1]))
    browser.wait(lambda: browser.all("#answer [data-testid$=confidence-set]"), "the answer")
    browser.wait(lambda: browser.run("return document.getAnimations().every(a => a.playState !== 'running')"), "rest")
    browser.screenshot(ASSETS / "app.png", height=620)
    shrunk(ASSETS / "app.png")
    page.close(verbose=False)


def main() -> None:
    browser = start_browser()
    try:
        with TemporaryDirectory() as folder:
            browser.look()
            draw_report(browser, Path(folder))
            draw_app(browser, Path(folder))
    finally:
        browser.driver.quit()


if __name__ == "__main__":
    main()
