"""A Space that shows a published model: an app pinned to the commit, and what it needs. Its files are plain text."""

from __future__ import annotations

import re
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from zoo._version import __version__
from zoo.files import write_text
from zoo.weights.commit import commit_folder
from zoo.weights.hub_errors import translate
from zoo.weights.remote import read_text

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


def push_space(space: str, repo: str, commit: str | None, *, url: str, token: Any = None) -> str:
    """Make or update the Space of a published model, in one commit; nothing for a dry run (no commit).

    Args:
        space: the Space, with its owner.
        repo, commit: the model that it shows.
        url: where the model was published, for the message of a failure.
        token: as `commit_folder`.

    Returns:
        URL of the Space.

    Raises:
        HubError: and its kinds; says that the model is published all the same.
    """
    from huggingface_hub import HfApi, constants

    page = f"{constants.ENDPOINT}/spaces/{space}"
    if commit is None:
        return page
    try:
        private = bool(HfApi(token=token, library_name="zoo").model_info(repo, timeout=10).private)
        texts = space_files(repo, commit, name=space.rpartition("/")[2], private=private)
        there = {name: read_text(space, name, token=token, repo_type="space") for name in texts}
        is_new = there[APP_NAME] is None
        texts = {name: text for name, text in texts.items() if is_new or not left_alone(name, there[name])}
        with tempfile.TemporaryDirectory(prefix="zoo-push-") as scratch:
            for name, text in texts.items():
                write_text(Path(scratch) / name, text)
            options: dict[str, Any] = {"token": token, "private": private if is_new else None, "space": True}
            commit_folder(scratch, space, message=f"Show {repo} at {commit[:8]}", **options)
    except Exception as error:
        known = translate(error, repo=f"spaces/{space}", action="write to", token=token)
        raise type(known)(
            f"the model is published ({url}), but its Space is not: {known}. Push again to make it (nothing is "
            f"uploaded twice)"
        ) from error
    return page


def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
