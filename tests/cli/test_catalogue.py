"""`zoo list`, `zoo info`, `zoo --help`: what they print, and that they are quick."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import zoo
from zoo.cli import app


def run(*args: str, **kwargs) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "zoo", *args], capture_output=True, text=True, **kwargs)


def test_list_is_one_name_a_line_when_piped():
    lines = run("list", "medvit2*").stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == zoo.list_models("medvit2*")


def test_list_json_and_modules():
    rows = json.loads(run("list", "medvit2_kan", "--json").stdout)
    assert rows[0]["canonical_name"] == "medvit2_kan_small"
    assert rows[0]["arxiv"] == "2502.13693"
    assert "mlp/kan" in run("list", "--kind", "mlp").stdout


def test_info():
    done = run("info", "medvit2_kan_nano")
    assert "ships with the package" in done.stdout
    assert "accuracy" in done.stdout
    facts = json.loads(run("info", "medvit2_kan_tiny", "--json").stdout)
    assert facts["params"] == zoo.registry.model_entry("medvit2_kan_tiny").params
    assert "KAN" in run("info", "mlp/kan").stdout


@pytest.mark.parametrize(
    ("args", "message", "code"),
    [
        (("info", "medvit2_kan_tny"), "unknown model 'medvit2_kan_tny'; did you mean 'medvit2_kan_tiny'", 1),
        (("info", "medvit2_kan_nano.digit"), "did you mean 'digits'", 1),
        (("info", "mlp/kann"), "did you mean 'mlp/kan'", 1),
        (("list", "--kind", "heads"), "unknown kind 'heads'; did you mean 'head'", 1),
        (("list", "--source", "tim"), "source must be 'zoo', 'timm' or 'all', got 'tim'", 1),
        (("info", "kan"), "unknown model 'kan'; did you mean 'kan_rbf'", 1),
        (("info", "kan"), "? There are modules 'mlp/kan', 'head/kan'", 1),
        (("info", __file__), "is a file: zoo info describes the folder of a saved model, ", 1),
        (("info", "nofolder/"), "there is no folder and no module 'nofolder/'. A module is KIND/NAME", 1),
        (("info", "mlpp/kan"), "there is no folder and no module 'mlpp/kan'; did you mean 'mlp/kan'", 1),
        (("info", "mlp/"), "there is no folder and no module 'mlp/'", 1),
        (("info", "someone/net"), "a repository on the Hub is hf-hub:someone/net", 1),
        (("list", "--modules", "--pretrained"), "Invalid value for --pretrained: it is about models", 2),
        (("list", "--modules", "--source", "timm"), "Invalid value for --source: it is about models", 2),
        (("list", "--kind", "mlp", "--uses", "mlp/kan"), "Invalid value for --uses: it is about models, and --kind", 2),
        (("lst",), "No such command 'lst'", 2),
        (("list", "--colour"), "No such option: --colour", 2),
    ],
)
def test_errors_are_one_line_and_exit_codes_tell_them_apart(args, message, code):
    done = CliRunner().invoke(app, list(args))
    assert done.exit_code == code
    assert isinstance(done.exception, SystemExit)  # nothing else came through to the shell
    assert message in " ".join(done.stderr.replace("│", " ").split())
    if code == 1:
        assert len(done.stderr.strip().splitlines()) <= 1 + message.startswith("? ")
    assert done.stdout == ""


def test_an_error_ends_the_process():
    done = run("info", "mlp/kann")
    assert done.returncode == 1
    assert "did you mean 'mlp/kan'" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_debug_shows_the_traceback():
    assert "Traceback" in run("--debug", "info", "mlp/no_such_module_here").stderr


def test_version_and_help():
    assert run("--version").stdout.strip() == f"zoo {zoo.__version__}"
    help_text = run("--help").stdout
    for command in get_command(app).commands:
        assert f"  {command} " in help_text


def test_options_are_in_small_letters():
    """A metavar is what an option takes, not its name, whatever the version of typer makes of it."""
    for name, command in get_command(app).commands.items():
        for param in command.params:
            long = [option for option in param.opts if option.startswith("--")]
            assert all(option == option.lower() for option in long), (name, long)


@pytest.mark.parametrize("args", [("list",), ("--help",), ("info", "medvit2_kan"), ("info", "resnet18_kan_head")])
def test_quick(args):
    """At most 0.3 s of CPU time (best of five: the machine may be busy)."""
    best = 9.0
    for _ in range(5):
        before = os.times()
        assert run(*args).returncode == 0
        after = os.times()
        best = min(best, after.children_user + after.children_system - before.children_user - before.children_system)
    assert best <= 0.3


def test_without_torch():
    commands = [
        ("list",),
        ("list", "--uses", "mlp/kan", "--json"),
        ("--help",),
        *((command, "--help") for command in get_command(app).commands),
        ("info", "medvit2_kan"),
        ("info", "resnet18_kan_head"),
    ]
    code = f"""
import sys
from zoo.cli import main
for args in {commands!r}:
    sys.argv = ["zoo", *args]
    try:
        main()
    except SystemExit as end:
        assert not end.code, args
    found = {{"torch", "timm", "huggingface_hub"}} & set(sys.modules)
    assert not found, (args, found)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_info_of_a_saved_model(tmp_path):
    zoo.save_pretrained(zoo.create_model("medvit2_kan_nano", pretrained=True), tmp_path / "m", license="mit")
    facts = json.loads(run("info", str(tmp_path / "m"), "--json").stdout)
    assert facts["architecture"] == "medvit2_kan_nano"
    assert facts["num_classes"] == 10
    assert facts["licence"] == "mit"


def test_nothing_found_is_said():
    done = run("list", "medvit3*")
    assert done.stdout == ""
    assert "no model matches 'medvit3*'" in done.stderr
