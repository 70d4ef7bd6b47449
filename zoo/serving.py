"""`zoo.app`: a page on which an image is dropped and the model's answer is read."""

from __future__ import annotations

import os
from abc import ABCMeta
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn

from zoo.device import check_device
from zoo.errors import DataError, MissingExtraError, ZooError
from zoo.files import write_text
from zoo.models.data_config import data_config, words_of
from zoo.naming import known_keywords
from zoo.training.data.folder import image_files
from zoo.training.model_source import instance_shape, model_name, ready_model, refuse_tables
from zoo.training.prediction import predict

_EXAMPLES = 12
_ASK = "Drop an image, or click to choose a file."


@known_keywords
def app(
    model: Any,
    *,
    title: str | None = None,
    examples: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | None = None,
    top: int = 5,
    multi_label: bool | None = None,
    scale: float | None = None,
    device: str | None = None,
) -> Any:
    """A web page on which an image is dropped and the model's answer, with probabilities, is read.

        zoo.app("runs/mine").launch()

    Images go the way of `zoo.predict`. Nothing is sent anywhere: the page is served by this process, for this machine
    alone unless `launch` is told otherwise.

    Args:
        model: a module, a registered name with weights, a run folder, `local-dir:…` or `hf-hub:…`.
        title: of the page; default the model's name.
        examples: image files to try, or a folder of them, of which the first twelve are taken.
        top: how many classes to name, best first.
        multi_label: independent probabilities; None: as the model was fine-tuned.
        scale: value of white in float images above 1.
        device: where to run; None for where the model is.

    Returns:
        The `gradio.Blocks`, to be launched.

    Raises:
        ValueError: `top` below 1, or a device that is not there.
        DataError: an example that is no file, a model of bags or tables, or one without a classifier.
        MissingExtraError: without the extra `app`.
    """
    if isinstance(top, bool) or not isinstance(top, int) or top < 1:
        raise ValueError(f"top must be a whole number from 1, got {top!r}")
    check_device(device)
    files = _files(examples)
    # Read when the package is imported and when a page is made; who wants to tell Gradio may set it.
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        import gradio as gr
    except ImportError as error:
        raise MissingExtraError("zoo.app", "gradio", "app") from error
    net = ready_model(model)
    _refuse_other_inputs(net)
    net.eval()
    if getattr(net, "num_classes", None) == 0:
        raise DataError(f"{model_name(net)} has no classifier (num_classes=0): there is nothing to show")
    independent = bool(getattr(net, "zoo_multi_label", False)) if multi_label is None else multi_label
    name = model_name(net)

    def answer(upload: tuple[str, str] | None) -> tuple[dict[str, float] | None, str]:
        if upload is None:
            return None, _ASK
        path, shown = upload
        try:
            (found,) = predict(net, Path(path), top, multi_label=independent, scale=scale, device=device)
        except (ZooError, ValueError, OSError) as error:
            return None, _no_answer(error, path, shown)
        return _confidences(found["top"]), _plain(shown)

    with gr.Blocks(title=title or name, analytics_enabled=False) as page:
        gr.Markdown(f"# {_plain(title or name)}")
        with gr.Row():
            with gr.Column():
                image = _upload(gr)(
                    type="filepath", image_mode=None, sources=["upload", "clipboard"], label="image", height=320
                )
                status = gr.Markdown(_ASK, elem_id="status")
            with gr.Column():
                label = gr.Label(
                    label="probabilities, each label by itself" if independent else "probabilities",
                    num_top_classes=top,
                    show_heading=not independent,
                    elem_id="answer",
                )
        if files:
            gr.set_static_paths(list(files))
            gr.Examples([str(path) for path in files], image, cache_examples=False, label="examples")
        with gr.Accordion("about the model", open=False):
            gr.Markdown(_about(net, model, name, independent), elem_id="about")
        image.change(answer, image, [label, status], api_name="predict", show_progress="minimal")
    return page


def save_space(model: Any, folder: str | os.PathLike[str], *, title: str | None = None) -> list[Path]:
    """Write the files of a Space that shows a published model, as `zoo.push_to_hub(…, space=True)` does.

    Args:
        model: `hf-hub:USER/REPO`, with or without `@REVISION`; the Space is pinned to its commit.
        folder: where to; files of the same names are replaced.
        title: of the Space.

    Returns:
        The files.

    Raises:
        ValueError: a model that is not on the Hub.
        DataError: a model of bags or tables.
    """
    from zoo.weights.space import space_files

    net = ready_model(model) if str(model).startswith("hf-hub:") else None
    source = getattr(net, "zoo_source", None)
    if net is None or not source:
        raise ValueError(
            f"a Space shows a model that is on the Hub, hf-hub:USER/REPO; got {str(model)!r}. Publish it first: "
            "zoo.push_to_hub(…, space=True), zoo push … --space"
        )
    _refuse_other_inputs(net)
    written = []
    for name, text in space_files(source["repo"], source["commit"], name=title).items():
        write_text(Path(folder).expanduser() / name, text)
        written.append(Path(folder).expanduser() / name)
    return written


def _refuse_other_inputs(net: nn.Module) -> None:
    """Refuse a model that one image is no input of."""
    refuse_tables(net)
    if words_of(net) is not None:
        raise DataError(f"{model_name(net)} takes sequences of letters, and the page shows images; use zoo.predict")
    if instance_shape(net) is not None:
        raise DataError(
            f"{model_name(net)} takes bags of instances, and the page shows one image at a time; zoo.predict (zoo "
            "predict MODEL BAGS) answers bags and says which instances decided, zoo.explain.top_instances draws them"
        )


def _files(examples: Any) -> list[Path]:
    """The example files.

    Raises:
        DataError: one that is not there, or a folder without images.
    """
    if examples is None:
        return []
    if isinstance(examples, str | os.PathLike):
        folder = Path(examples).expanduser()
        if folder.is_dir():
            found = image_files(folder)[:_EXAMPLES]
            if not found:
                raise DataError(f"no images in {str(folder)!r}")
            return [path.resolve() for path in found]
        examples = [examples]
    files = [Path(path).expanduser() for path in examples]
    missing = next((path for path in files if not path.is_file()), None)
    if missing is not None:
        raise DataError(f"no such example: {str(missing)!r}")
    return [path.resolve() for path in files]


def _upload(gr: Any) -> Any:
    """Gradio's image field, as a class that hands over (path, name) of the file as it came, whatever it holds:
    `zoo.predict` reads it or says why not.
    """

    def preprocess(self: Any, payload: Any) -> tuple[str, str] | None:
        if payload is None or payload.path is None:
            return None
        return payload.path, payload.orig_name or Path(payload.path).name

    # `is_template`: Gradio draws it as its parent. Not by a class statement, at which Gradio's metaclass would write a
    # .pyi file beside this one.
    return ABCMeta.__new__(type(gr.Image), "Upload", (gr.Image,), {"is_template": True, "preprocess": preprocess})


def _no_answer(error: Exception, path: str, shown: str) -> str:
    """What the page says about an image that the model cannot be asked about."""
    why = str(error).replace(str(path), shown).partition("; remove it, or pass on_bad")[0]
    return f"**No answer.** {_plain(why[:1].upper() + why[1:])}."


def _confidences(best: list[dict[str, Any]]) -> dict[str, float]:
    """Label -> probability; labels of the same name (ImageNet has two cranes) are told apart by their numbers."""
    names = [one["label"] for one in best]
    return {
        one["label"] if names.count(one["label"]) == 1 else f"{one['label']} ({one['index']})": one["probability"]
        for one in best
    }


def _about(net: nn.Module, model: Any, name: str, independent: bool) -> str:
    """A table of facts, in Markdown."""
    config, cfg = data_config(net), getattr(net, "pretrained_cfg", None) or {}
    labels = list(cfg.get("label_names") or ())
    shown = ", ".join(labels[:30]) + (f" and {len(labels) - 30} more" if len(labels) > 30 else "")
    source = getattr(net, "zoo_source", None) or {}
    rows = {
        "model": name,
        "weights": f"{source['repo']} at {source['commit']}" if source else _given(model),
        "parameters": f"{sum(p.numel() for p in net.parameters()):,}",
        "input": " × ".join(map(str, config["input_size"])),
        "classes": f"{getattr(net, 'num_classes', len(labels)):,}" + (f": {shown}" if labels else ""),
        "answer": "a probability for every label" if independent else "one of the classes; probabilities add up to 1",
        "licence of the weights": cfg.get("license"),
        "paper": cfg.get("paper_name"),
    }
    lines = [f"| {key} | {_plain(str(value))} |" for key, value in rows.items() if value]
    return "\n".join(["| | |", "|---|---|", *lines])


def _given(model: Any) -> str | None:
    return os.fspath(model) if isinstance(model, str | os.PathLike) else None


def _plain(text: str) -> str:
    """Text that Markdown shows as it stands: names of classes and files are not markup."""
    text = " ".join(text.split())
    return "".join(f"\\{c}" if c in "\\`*_{}[]()#+!|<>~$&" else c for c in text)
