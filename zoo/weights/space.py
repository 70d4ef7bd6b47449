"""The files of a Space that shows a published model: an app pinned to the commit, and what it needs. Plain text."""

from __future__ import annotations

import re
from importlib import metadata

from zoo._version import __version__

APP_NAME = "app.py"
_MARK = "# Written by zoo, and written anew at each push with space=; a file without this line is left alone."


def is_ours(app: str | None) -> bool:
    """Whether the app.py of a Space was written here, so that it may be written anew."""
    return app is None or _MARK in app


def left_alone(name: str, text: str | None) -> bool:
    """Whether a file of a Space belongs to its owner by now: its page, and requirements that were changed."""
    if name == "requirements.txt":
        return text is not None and not re.fullmatch(r"zoo-layers\[app\]==\S+\s*", text)
    return name != APP_NAME and text is not None


def space_files(repo: str, commit: str, *, name: str | None = None, private: bool = False) -> dict[str, str]:
    """File name -> text of a Gradio Space for one commit of a model.

    Args:
        repo: the model's repository, with its owner.
        commit: the pushed commit; the app loads this one, whatever is pushed later.
        name: title of the Space. Default: the repository's name.
        private: the model is private, so that the Space needs a token: its page says how to give it one.
    """
    front = {"title": name or repo.rpartition("/")[2], "sdk": "gradio", "app_file": APP_NAME}
    if version := _installed("gradio"):
        front["sdk_version"] = version
    lines = [f"{key}: {_quoted(value)}" for key, value in front.items()]
    lines += ["models:", f"- {_quoted(repo)}"]
    text = f"An app for the model [{repo}](https://huggingface.co/{repo}) at commit `{commit}`."
    if private:
        text += "\n\nThe model is private: give this Space a secret `HF_TOKEN` that may read it (Settings, Secrets)."
    return {
        "README.md": f"---\n{chr(10).join(lines)}\n---\n\n{text}\n",
        APP_NAME: f'{_MARK}\nimport zoo\n\nzoo.app("hf-hub:{repo}@{commit}").launch()\n',
        "requirements.txt": f"zoo-layers[app]=={__version__}\n",
    }


def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
