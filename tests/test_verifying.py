"""`zoo.verify` and `zoo verify`: every check is made, whatever fails before it, and nothing is executed."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import CommitOperationAdd, HfApi, constants
from typer.testing import CliRunner

import zoo
from zoo.cli import app
from zoo.errors import ConfigError, HubUnavailableError, MissingFileError, RepoNotFoundError, UnknownModelError
from zoo.verifying import STATUSES, verify
from zoo.weights import save_safetensors

NANO = "medvit2_kan_nano"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("saved") / "model"
    return zoo.save_pretrained(zoo.create_model("test_resnet", num_classes=3), folder, license="mit")


@pytest.fixture
def saved(original, tmp_path):
    return Path(shutil.copytree(original, tmp_path / "model"))


def outcome(result):
    """name -> status, the worst one where a name has several."""
    return {c.name: c.status for c in sorted(result.checks, key=lambda c: -STATUSES.index(c.status))} | {
        c.name: c.status for c in result.checks if c.status == "failed"
    }


def edit(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


SOUND = {
    "config": "ok",
    "files": "ok",
    "header model.safetensors": "ok",
    "values model.safetensors": "ok",
    "sha256 model.safetensors": "ok",
    "loads": "ok",
    "card": "ok",
    "licence": "ok",
    "no pickle, no code": "ok",
}


def test_a_sound_folder_passes_every_check(saved):
    for source in (saved, str(saved), f"local-dir:{saved}"):
        result = verify(source)
        assert result.ok
        assert outcome(result) == SOUND
        assert "nothing failed" in str(result)
    size = (saved / "model.safetensors").stat().st_size
    assert result.files["model.safetensors"]["size"] == size


def test_a_run_is_its_best_model(saved, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    saved.rename(run / "best")
    result = verify(run)
    assert result.ok
    assert result.origin == str(run / "best")


def flip(path, offset=-3):
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def test_what_fails_does_not_hide_the_rest(saved):
    flip(saved / "model.safetensors")
    (saved / "README.md").unlink()
    edit(saved, architecture="test_resnett")
    (saved / "train.py").write_text("raise SystemExit(3)")
    result = verify(saved)
    assert outcome(result) == SOUND | {
        "config": "failed",
        "sha256 model.safetensors": "failed",
        "loads": "skipped",
        "card": "not recorded",
        "no pickle, no code": "warning",
    }
    said = str(result)
    for part in ("did you mean 'test_resnet'", "recorded", "train.py", "2 of 9 checks failed"):
        assert part in said


@pytest.mark.parametrize(
    ("damage", "name", "status", "said"),
    [
        (lambda f: (f / "config.json").unlink(), "config", "failed", "not a published model"),
        (lambda f: (f / "config.json").write_text("{"), "config", "failed", "line 1"),
        (lambda f: (f / "model.safetensors").unlink(), "files", "failed", "expected model.safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(b"{}"), "header model.safetensors", "failed", "whole"),
        (lambda f: edit(f, zoo={"format": 1}), "sha256 model.safetensors", "not recorded", ""),
        (lambda f: edit(f, zoo={"files": {"more.safetensors": {}}}), "file more.safetensors", "failed", "not there"),
        (lambda f: edit(f, num_classes=4, label_names=list("abcd")), "config", "warning", "num_classes 4"),
        (lambda f: edit(f, architecture="test_vit", model_args={}), "loads", "failed", "of another model"),
        (lambda f: (f / "README.md").write_bytes(b"\xff"), "card", "failed", "decode"),
        (lambda f: (f / "README.md").write_text("---\nlicense: bsd\n---\n"), "licence", "warning", "the card says bsd"),
        (lambda f: (f / "pytorch_model.bin").write_bytes(b"x"), "no pickle, no code", "warning", "pytorch_model.bin"),
    ],
)
def test_each_kind_of_damage_is_told(saved, damage, name, status, said):
    damage(saved)
    found = [c for c in verify(saved).checks if c.name == name and c.status == status]
    assert found, verify(saved)
    assert any(said in c.detail for c in found)


def test_preparation_that_is_not_recorded_is_told_once(saved):
    cfg = json.loads((saved / "config.json").read_text())["pretrained_cfg"]
    edit(saved, pretrained_cfg={**cfg, "mean": None})
    told = [c for c in verify(saved).checks if "mean=(0.485" in c.detail]
    assert [(c.name, c.status) for c in told] == [("config", "warning")]
    with pytest.warns(UserWarning, match="does not say how images are prepared"):
        zoo.create_model(f"local-dir:{saved}")


def test_preparation_that_cannot_be_is_a_failed_config(saved):
    cfg = json.loads((saved / "config.json").read_text())["pretrained_cfg"]
    edit(saved, pretrained_cfg={**cfg, "interpolation": "foo"})
    assert outcome(verify(saved))["config"] == "failed"
    with pytest.raises(ConfigError, match="interpolation must be one of nearest"):
        zoo.create_model(f"local-dir:{saved}")


def test_values_that_are_not_finite_are_told_with_the_tensor(saved):
    state = {k: v.clone() for k, v in zoo.create_model(f"local-dir:{saved}").state_dict().items()}
    state["fc.bias"][1] = float("nan")
    save_safetensors(state, saved / "model.safetensors", check_finite=False)
    result = verify(saved / "model.safetensors")
    assert outcome(result)["values model.safetensors"] == "failed"
    assert "'fc.bias'" in str(result)


def test_shards_are_checked_one_by_one(saved):
    state = zoo.create_model(f"local-dir:{saved}").state_dict()
    homes = {k: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, k in enumerate(state)}
    (saved / "model.safetensors").unlink()
    for name in sorted(set(homes.values())):
        save_safetensors({k: v for k, v in state.items() if homes[k] == name}, saved / name)
    (saved / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": homes}))
    edit(saved, zoo={"format": 1})
    result = verify(saved)
    assert result.ok
    assert outcome(result)["loads"] == "ok"
    first, second = sorted(set(homes.values()))
    (saved / second).unlink()
    found = outcome(verify(saved))
    assert (found["files"], found[f"values {first}"], found["loads"]) == ("failed", "ok", "skipped")


def test_shards_without_their_index_name_it(saved):
    for k in (1, 2):
        shutil.copy(saved / "model.safetensors", saved / f"model-0000{k}-of-00002.safetensors")
    (saved / "model.safetensors").unlink()
    (files,) = [c for c in verify(saved).checks if c.name == "files"]
    assert files.status == "failed"
    assert "lacks model.safetensors.index.json" in files.detail
    with pytest.raises(MissingFileError, match=r"lacks model\.safetensors\.index\.json"):
        zoo.create_model(f"local-dir:{saved}")


def test_a_checkpoint_of_ours_by_its_name_and_a_pickle_by_its_path(tmp_path):
    assert verify(f"{NANO}.digits").ok
    assert outcome(verify(NANO))["loads"] == "ok"
    torch.save({"w": torch.ones(1)}, tmp_path / "w.bin")
    assert outcome(verify(tmp_path / "w.bin")) == {"weights": "failed"}
    with pytest.raises(UnknownModelError, match=f"did you mean '{NANO}"):
        verify(f"{NANO}o")
    with pytest.raises(FileNotFoundError, match="nothere"):
        verify(tmp_path / "nothere")
    with pytest.raises(TypeError, match="verify takes a repository"):
        verify(3)


# --- repositories ---


@pytest.fixture
def repo(hub, saved, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    repo = hub.repo_id()
    api = HfApi(token=hub.token)
    api.create_repo(repo)
    operations = [CommitOperationAdd(p.name, p.read_bytes()) for p in saved.iterdir()]
    api.create_commit(repo, operations, commit_message="Add")
    return repo


def test_a_sound_repository_passes_and_every_file_is_compared_with_the_hub(hub, repo):
    for name in (repo, f"hf-hub:{repo}", f"{repo}@main"):
        result = verify(name, cache_dir=hub.cache)
        assert result.ok, result
        assert outcome(result) == SOUND | {"sums of the Hub": "ok"}
    assert HfApi().model_info(repo).sha in result.origin


def test_a_byte_that_flips_on_the_way_is_one_failed_line(hub, repo):
    hub.fail_next("GET", "/_lfs/get/*", corrupt=True, times=9)
    result = verify(repo, cache_dir=hub.cache)
    found = outcome(result)
    assert found["sum of the Hub model.safetensors"] == "failed"
    assert (found["config"], found["card"], found["loads"]) == ("ok", "ok", "skipped")


def test_a_byte_that_flipped_in_the_cache_is_told_with_the_file(hub, repo):
    verify(repo, cache_dir=hub.cache)
    path = next(hub.cache.glob("models--*/snapshots/*/model.safetensors")).resolve()
    path.chmod(0o644)
    flip(path)
    result = verify(repo, cache_dir=hub.cache)
    assert outcome(result)["sum of the Hub model.safetensors"] == "failed"
    assert str(path) in str(result.failed[0].detail)


def test_pickles_and_code_in_a_repository_are_listed_and_not_fetched(hub, repo):
    api = HfApi(token=hub.token)
    api.create_commit(repo, [CommitOperationAdd("a.bin", b"x"), CommitOperationAdd("b.py", b"y")], commit_message="Add")
    result = verify(repo, cache_dir=hub.cache)
    assert result.ok
    assert "never opened: a.bin, b.py" in str(result)
    assert not hub.seen("*", "*/resolve/*/a.bin")
    assert not hub.seen("*", "*/resolve/*/b.py")


def test_offline_the_cache_is_checked_and_says_so(hub, repo, monkeypatch):
    verify(repo, cache_dir=hub.cache)
    asked = len(hub.requests)
    result = verify(repo, cache_dir=hub.cache, local_files_only=True)
    assert result.ok
    assert outcome(result)["sums of the Hub"] == "skipped"
    assert len(hub.requests) == asked
    with pytest.raises(HubUnavailableError, match="no folder or file 'alice/nothing' here either"):
        verify("alice/nothing", cache_dir=hub.cache, local_files_only=True)


def test_a_mistyped_folder_may_look_like_a_repository(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RepoNotFoundError, match=r"'sp/nothere' on .* no folder or file 'sp/nothere' here either\.$"):
        verify("sp/nothere", cache_dir=hub.cache)
    (tmp_path / "sp/nothese").mkdir(parents=True)
    with pytest.raises(RepoNotFoundError, match=r"here either; did you mean 'nothese'\?$"):
        verify("sp/nothere", cache_dir=hub.cache)
    with pytest.raises(RepoNotFoundError) as caught:
        verify("hf-hub:sp/nothere", cache_dir=hub.cache)
    assert "folder" not in str(caught.value)


def test_offline_what_is_not_in_the_cache_is_not_said_to_be_missing(hub, repo):
    zoo.create_model(f"hf-hub:{repo}", cache_dir=hub.cache)  # fetches the config and the weights alone
    result = verify(repo, cache_dir=hub.cache, local_files_only=True)
    assert result.ok
    (card,) = [c for c in result.checks if c.name == "card"]
    assert card.status == "skipped"
    assert "README.md is not in the cache" in card.detail
    assert result.checks[-1].detail == "among the files in the cache"


# --- the command ---


def run(*args, code=0):
    done = CliRunner().invoke(app, ["verify", *map(str, args)])
    assert done.exit_code == code, done.output
    return done


def test_the_command_prints_a_line_a_check_and_ends_with_1_when_one_failed(saved):
    done = run(saved)
    assert len([line for line in done.stdout.splitlines() if line.startswith("  ")]) == len(SOUND)
    assert "Reading model.safetensors" in done.stderr
    assert json.loads(run(saved, "--json").stdout)["ok"] is True
    flip(saved / "model.safetensors")
    facts = json.loads(run(saved, "--json", code=1).stdout)
    assert [c["name"] for c in facts["checks"] if c["status"] == "failed"] == ["sha256 model.safetensors"]
    assert "error: " in run(saved.parent / "nothing", code=1).stderr
