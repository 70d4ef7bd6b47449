"""`zoo push`, `zoo pull`, `zoo convert`: results on stdout, the rest on stderr, errors in one line."""

import contextlib
import json

import pytest
import torch
import yaml
from huggingface_hub import HfApi, ModelCard
from typer.testing import CliRunner

import zoo
from zoo.cli import app
from zoo.weights.converters.medvit2 import export_official

NAME = "medvit2_kan_nano"


def run(*args, code=0):
    done = CliRunner().invoke(app, [str(a) for a in args])
    assert done.exit_code == code, done.output
    return done


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    model = zoo.create_model("test_resnet", num_classes=3)
    zoo.save_pretrained(model, tmp_path / "saved", metrics={"accuracy": 0.5, "dataset": "digits"})
    return tmp_path / "saved"


def test_push_and_pull_a_folder(hub, saved, tmp_path):
    repo = hub.repo_id()
    done = run("push", saved, repo, "--license", "mit", "--tag", "v1", "--train-data", "digits")
    head = HfApi().model_info(repo).sha
    assert done.stdout.strip() == f"{hub.endpoint}/{repo}/commit/{head}"
    assert "model.safetensors" in done.stderr
    assert ModelCard.load(repo).data.eval_results[0].metric_value == 0.5
    done = run("pull", f"{repo}@v1", tmp_path / "out", "--json")
    facts = json.loads(done.stdout)
    assert (facts["folder"], facts["repo"], facts["commit"]) == (str(tmp_path / "out"), repo, head)
    assert (tmp_path / "out/model.safetensors").read_bytes() == (saved / "model.safetensors").read_bytes()
    assert run("pull", repo, tmp_path / "again").stdout.startswith(f"{tmp_path / 'again'}\t{repo}@main (commit")


def test_a_dry_run_uploads_nothing_and_says_what_it_would(hub, saved):
    done = run("push", saved, hub.repo_id(), "--license", "mit", "--dry-run", "--json")
    assert set(json.loads(done.stdout)["files"]) == {"README.md", "config.json", "model.safetensors"}
    assert not hub.seen("POST")


@pytest.mark.parametrize("why", ["up", "down", "offline"])
def test_a_dry_run_prints_files_sizes_and_front_matter_with_and_without_the_hub(hub, saved, why, monkeypatch):
    repo = hub.repo_id()
    if why == "offline":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with hub.down() if why == "down" else contextlib.nullcontext():
        done = run("push", saved, repo, "--license", "mit", "--dry-run", "--space", "--max-shard-size", "300KB")
    assert done.stdout.splitlines() == [
        f"would push to {hub.endpoint}/{repo}",
        f"would show it at {hub.endpoint}/spaces/{repo}",
    ]
    sizes = dict(line.split("\t") for line in done.stderr.splitlines() if "\t" in line)
    assert sizes.keys() > {"README.md", "config.json", "model.safetensors.index.json"}
    assert sum(int(size) for name, size in sizes.items() if name.endswith(".safetensors")) > 300_000
    front = done.stderr[done.stderr.index("---\n") :]
    assert yaml.safe_load(front.split("---")[1])["license"] == "mit"
    assert ("note: the repository could not be looked at" in done.stderr) == (why != "up")
    assert not hub.seen("POST")


def test_a_space_is_made_beside_the_model(hub, saved):
    repo = hub.repo_id()
    done = run("push", saved, repo, "--license", "mit", "--space-name", f"{repo}-app")
    assert done.stdout.splitlines()[1] == f"{hub.endpoint}/spaces/{repo}-app"
    assert HfApi().space_info(f"{repo}-app").sdk == "gradio"
    done = run("push", saved, repo, "--max-shard-size", "300KB")
    assert "model.safetensors\tdeleted" in done.stderr.splitlines()
    assert "no size" in run("push", saved, repo, "--max-shard-size", "many", code=1).stderr


def test_a_registered_checkpoint_is_pushed_by_its_name_with_what_its_manifest_says(hub):
    repo = hub.repo_id()
    run("push", NAME, repo)
    row = zoo.registry.weights_entry(NAME)
    card = ModelCard.load(repo)
    assert card.data.license == row.licence
    assert row.command in card.text
    assert f"| accuracy | {row.metrics['accuracy']:.6g} |" in card.text
    state = zoo.create_model(f"hf-hub:{repo}", cache_dir=hub.cache).state_dict()
    shipped = zoo.create_model(NAME, pretrained=True).state_dict()
    assert all(torch.equal(state[name], value) for name, value in shipped.items())


def test_convert_writes_a_model_that_loads(tmp_path):
    model = zoo.create_model(NAME, num_classes=4)
    torch.save({"model": export_official(model.state_dict())}, tmp_path / "official.pth")
    done = run("convert", tmp_path / "official.pth", tmp_path / "out", "--model", NAME, "--allow-pickle")
    assert f"tensors for {NAME}" in done.stdout
    assert "sha256" in done.stdout
    again = zoo.create_model(f"local-dir:{tmp_path / 'out'}")
    assert torch.equal(again.state_dict()["norm.weight"], model.state_dict()["norm.weight"])
    done = run(
        "convert", tmp_path / "official.pth", tmp_path / "x.safetensors", "--model", NAME, "--allow-pickle", "--json"
    )
    assert json.loads(done.stdout)["num_classes"] == 4


def test_errors_are_one_line_and_exit_code_1(hub, saved, tmp_path):
    torch.save({}, tmp_path / "x.pth")
    cases = {
        "license": ("push", saved, hub.repo_id()),
        "holds no config.json": ("push", tmp_path, hub.repo_id(), "--license", "mit"),
        "no repository 'alice/nothing'": ("pull", "alice/nothing", tmp_path / "out"),
        "not empty": ("pull", "alice/nothing", saved),
        "allow-pickle": ("convert", tmp_path / "x.pth", tmp_path / "out", "--model", NAME),
        f"there is no folder '{tmp_path}/save'; did you mean 'saved'?": ("push", tmp_path / "save", hub.repo_id()),
        "there is no folder './nope/x'; nope does not exist either": ("push", "./nope/x", hub.repo_id()),
        "is a file: give the folder": ("push", tmp_path / "x.pth", hub.repo_id()),
        "did you mean 'medvit2": ("push", "medvit2_kan_nan", hub.repo_id(), "--license", "mit"),
    }
    for said, arguments in cases.items():
        done = run(*arguments, code=1)
        assert said in done.stderr
        assert done.stdout == ""
        assert "Traceback" not in done.output
        assert len([line for line in done.stderr.splitlines() if line.startswith("error:")]) == 1


def test_a_tag_is_moved_when_asked_to(hub, saved):
    repo = hub.repo_id()
    first = json.loads(run("push", saved, repo, "--license", "mit", "--tag", "v1", "--json").stdout)["commit"]
    run("push", saved, repo, "--train-data", "other", "--tag", "v1", code=1)
    assert HfApi().model_info(repo, revision="v1").sha == first
    run("push", saved, repo, "--train-data", "other", "--tag", "v1", "--move-tag")
    assert HfApi().model_info(repo, revision="v1").sha == HfApi().model_info(repo).sha != first


def test_without_a_token_the_ways_to_give_one_are_told(hub, saved, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "")
    done = run("push", saved, hub.repo_id(), "--license", "mit", code=1)
    assert "there is none: log in with hf auth login, set HF_TOKEN" in done.stderr


def test_a_new_branch_takes_the_licence_of_main(hub, saved):
    repo = hub.repo_id()
    run("push", saved, repo, "--license", "cc-by-4.0")
    run("push", saved, repo, "--revision", "dev")
    text = HfApi().hf_hub_download(repo, "README.md", revision="dev")
    assert ModelCard.load(text).data.license == "cc-by-4.0"


def test_the_token_is_never_printed(hub, saved):
    for token in (hub.bad_token, hub.read_token):
        done = run("push", saved, hub.repo_id(), "--license", "mit", "--token", token, code=1)
        assert token not in done.output
        assert token not in run("push", "--help").output
