"""The files of a Space: pinned to the commit, readable by the Hub's client, and runnable as they are."""

import ast

from huggingface_hub import SpaceCard

import zoo
from zoo.weights.space import is_ours, space_files

COMMIT = "0123456789" * 4


def test_the_app_loads_the_pushed_commit_and_nothing_else():
    files = space_files("me/digits", COMMIT)
    assert files.keys() == {"README.md", "app.py", "requirements.txt"}
    tree = ast.parse(files["app.py"])
    strings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    assert strings == [f"hf-hub:me/digits@{COMMIT}"]
    assert [ast.unparse(node) for node in tree.body] == ["import zoo", f"zoo.app('hf-hub:me/digits@{COMMIT}').launch()"]
    assert files["requirements.txt"].split() == [f"zoo-layers[app]=={zoo.__version__}"]


def test_the_front_matter_says_what_the_hub_needs_to_know():
    card = SpaceCard(space_files("me/digits", COMMIT, name='a "b": c')["README.md"])
    front = card.data.to_dict()
    assert (front["title"], front["sdk"], front["app_file"], front["models"]) == (
        'a "b": c',
        "gradio",
        "app.py",
        ["me/digits"],
    )
    assert COMMIT in card.text
    assert "HF_TOKEN" not in card.text
    assert "HF_TOKEN" in space_files("me/digits", COMMIT, private=True)["README.md"]


def test_the_version_of_gradio_is_stated_only_when_it_is_known(monkeypatch):
    from importlib import metadata

    monkeypatch.setattr(metadata, "version", lambda name: {"gradio": "9.9.9"}[name])
    assert SpaceCard(space_files("me/m", COMMIT)["README.md"]).data.sdk_version == "9.9.9"

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert "sdk_version" not in space_files("me/m", COMMIT)["README.md"]


def test_only_what_was_written_here_is_written_anew():
    assert is_ours(None)
    assert is_ours(space_files("me/digits", COMMIT)["app.py"])
    assert not is_ours("import gradio as gr\n")
