"""`zoo.report`: read, measure, write."""

from __future__ import annotations

import base64
import hashlib
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

from torch import nn

from zoo._version import __version__
from zoo.device import check_device
from zoo.errors import ZooError
from zoo.files import write_text
from zoo.naming import known_keywords
from zoo.training.disk import explained_disk
from zoo.training.options import check_batch_size
from zoo.training.reporting.answers import Answers, answers_of, open_run_data
from zoo.training.reporting.comparison import comparison_page, is_comparison
from zoo.training.reporting.facts import RunFacts, read_run
from zoo.training.reporting.page import metric_name, run_page

NAME = "report.html"


@known_keywords
def report(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    data: Any = None,
    val: Any = None,
    model: nn.Module | None = None,
    worst: int = 24,
    batch_size: int = 64,
    device: str | None = None,
) -> Path:
    """Write a run, or a comparison, as one HTML page: what was trained and how, curves, metrics, the worst mistakes.

    The page is a single file: it loads nothing, also works without JavaScript, and the same run gives the same bytes.
    Images and what is counted from single answers need the data, on which the best model is measured once more; without
    it the page says what is missing.

    Args:
        run: folder of `zoo.finetune` or of `zoo.compare`.
        out: the file. Default: report.html in that folder.
        data: the run's data, as `zoo.finetune` takes it. None: where the run says that it was. False: do not look.
        val: what the run was given as `val`, if the run does not say.
        model: for a run whose best/ holds the weights alone: a module that they fit; it is not changed.
        worst: how many wrongly answered images to show.
        batch_size: images at a time.
        device: None for the best there is, or "cpu", "cuda", "mps".

    Returns:
        The file.

    Raises:
        TrainingError: no run or comparison is there, or it has not finished an epoch.
        DataError: the data that was given cannot be read or is not the run's.
        ValueError: `worst` or `batch_size` out of range, or a device that is not there.
        DiskFullError: no space for the page.
        MissingExtraError: data was given, and the extra `train` is not installed.
    """
    if isinstance(worst, bool) or not isinstance(worst, int) or worst < 0:
        raise ValueError(f"worst must be a whole number from 0, got {worst!r}")
    check_batch_size(batch_size)
    check_device(device)
    folder = Path(run).expanduser()
    target = folder / NAME if out is None else Path(out).expanduser()
    if is_comparison(folder):
        html = render("comparison", comparison_page(folder))
    else:
        facts = read_run(run)
        answers, note = _answers(facts, data, val, model, batch_size, device)
        html = render("run", run_page(facts, answers, note, worst))
    with explained_disk(target, len(html.encode()), "Make room, or write it elsewhere (out, --out)"):
        write_text(target, html)
    return target


def _answers(
    run: RunFacts, data: Any, val: Any, model: nn.Module | None, batch_size: int, device: str | None
) -> tuple[Answers | None, str | None]:
    """The answers, or why there are none. What was asked for by name must work; what was not, may be missing."""
    if data is False:
        return None, "The report was made without the data (data=False, --no-data)."
    if run.split is None:
        return None, None
    source = run.source if data is None else data
    try:
        splits = open_run_data(run, data, val)
        return answers_of(run, splits, source, model, batch_size=batch_size, device=device), None
    except (ZooError, OSError) as error:
        if data is not None:
            raise
        return None, f"{str(error)[:1].upper()}{str(error)[1:]}."


def render(name: str, variables: dict[str, Any]) -> str:
    """A page out of its template. Whatever is put into it is escaped; only our own style and script may run."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("zoo.training.reporting", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["metric"] = metric_name
    folder = files("zoo.training.reporting")
    own = {part: (folder / part).read_text("utf-8") for part in ("style.css", "script.js")}
    return environment.get_template(f"{name}.html.jinja").render(
        **variables,
        style=own["style.css"],
        script=own["script.js"],
        style_hash=_hash(own["style.css"]),
        script_hash=_hash(own["script.js"]),
        zoo_version=__version__,
    )


def _hash(text: str) -> str:
    """As a Content-Security-Policy names what may run."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
