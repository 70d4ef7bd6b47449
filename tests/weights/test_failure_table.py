"""One test for every way in which loading a model can fail: the right error, that names repository, file and a way out,
soon, and leaves nothing half-written and no pickle opened.

The order is that of the tables in the specification: what the Hub does, what a file or a configuration does, what the
stock client gets wrong, what strangers write.
"""

import json
import os
import shutil
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from huggingface_hub import CommitOperationAdd, HfApi, constants
from safetensors.torch import save_file

import zoo
from zoo.errors import (
    AccessDeniedError,
    ChecksumError,
    ConfigError,
    CorruptFileError,
    FileNotInRepoError,
    HubError,
    HubUnavailableError,
    MismatchError,
    NonFiniteWeightsError,
    PickleRefusedError,
    RepoNotFoundError,
    RevisionNotFoundError,
    UnknownModelError,
    WeightsError,
)
from zoo.weights.hub import pull

NANO = "medvit2_kan_nano"


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return (Path.touch, (Path(self.target),))


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("saved") / "model"
    model = zoo.create_model("test_resnet", num_classes=3)
    return zoo.save_pretrained(model, folder, license="mit")


@pytest.fixture
def saved(original, tmp_path):
    return Path(shutil.copytree(original, tmp_path / "model"))


@pytest.fixture
def repo(hub, original, monkeypatch):
    """A published model; large files go by HTTP, where they can be damaged."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    repo = hub.repo_id()
    HfApi(token=hub.token).create_repo(repo)
    commit(hub, repo, {p.name: p.read_bytes() for p in original.iterdir()})
    return repo


@pytest.fixture
def load(hub):
    def load(repo, **options):
        return zoo.create_model(f"hf-hub:{repo}", cache_dir=hub.cache, **options)

    return load


def commit(hub, repo, files):
    operations = [CommitOperationAdd(name, content) for name, content in files.items()]
    return HfApi(token=hub.token).create_commit(repo, operations, commit_message="Add").oid


def edited(folder, **changes):
    """Change the config.json of a folder; a value of None takes a key out."""
    path = folder / "config.json"
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    return f"local-dir:{folder}"


@contextmanager
def refused(error, *words, seconds=10.0, within=None):
    """The block raises `error`, in time, with all `words` in its message, and leaves nothing half-written."""
    begin = time.monotonic()
    with pytest.raises(error) as caught:
        yield
    assert time.monotonic() - begin < seconds
    said = str(caught.value)
    missing = [word for word in words if word not in said]
    assert not missing, f"{missing} not in {said!r}"
    assert len(said) < 3000
    left = [p for p in within.rglob("*") if ".incomplete" in p.name or ".tmp-" in p.name] if within else []
    assert not left


# --- the Hub: same-size corruption, truncation ---


def test_same_size_corruption(hub, repo, load):
    hub.fail_next("GET", "/_lfs/get/*", corrupt=True)
    with refused(ChecksumError, repo, "main", "model.safetensors", "try once more", within=hub.cache):
        load(repo)


def test_truncation(hub, repo, load):
    hub.fail_next("GET", "/_lfs/get/*", truncate=1000, times=99)
    with refused(CorruptFileError, repo, "main", "model.safetensors", "fetch it again", within=hub.cache):
        load(repo)


# --- 503 and 429, passing and lasting ---

REQUESTS = {"HEAD": "*/resolve/*/model.safetensors", "GET": "/_lfs/get/*"}


@pytest.mark.parametrize("status", [503, 429])
@pytest.mark.parametrize("method", REQUESTS)
def test_lasting_refusals_of_a_file(hub, repo, method, status):
    hub.fail_next(method, REQUESTS[method], status=status, times=99, headers={"Retry-After": "55"})
    when = "try again in 55 s" if status == 429 else "try again later"
    with refused(HubUnavailableError, repo, "main", "model.safetensors", when, seconds=4, within=hub.cache):
        pull(repo, cache_dir=hub.cache, timeout=3)


@pytest.mark.ci_long
@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 429}, {"status": 0}, {"status": None, "delay": 60}])
@pytest.mark.parametrize("method", REQUESTS)
def test_lasting_trouble_ends_within_ten_seconds_by_default(hub, repo, load, method, fault):
    hub.fail_next(method, REQUESTS[method], times=99, **fault)
    with refused(HubUnavailableError, repo, "main", "model.safetensors", within=hub.cache):
        load(repo)


@pytest.mark.parametrize("status", [503, 429])
@pytest.mark.parametrize("method", REQUESTS)
def test_passing_refusals_of_a_file(hub, repo, load, method, status):
    hub.fail_next(method, REQUESTS[method], status=status)
    assert load(repo).num_classes == 3


@pytest.mark.parametrize("happened", [False, True])
@pytest.mark.parametrize("status", [503, 429])
def test_refusals_of_a_commit_whether_or_not_it_happened(hub, repo, original, status, happened):
    count = len(HfApi().list_repo_commits(repo))
    model = zoo.create_model(f"local-dir:{original}")
    hub.fail_next("POST", "*/preupload/*", status=status)
    hub.fail_next("POST", "*/commit/*", status=status, after_commit=happened)
    pushed = zoo.push_to_hub(model, repo, license="mit", token=hub.token, train_data="other")
    assert len(HfApi().list_repo_commits(repo)) == count + 1
    assert HfApi().model_info(repo).sha == pushed.commit


def test_403_on_one_file(hub, repo, load, tmp_path):
    torch.save({"w": Bomb(tmp_path / "touched")}, tmp_path / "w.bin")
    commit(hub, repo, {"pytorch_model.bin": (tmp_path / "w.bin").read_bytes()})
    hub.fail_next("*", "*/resolve/*/model.safetensors", status=403, times=99)
    with refused(AccessDeniedError, repo, "main", "model.safetensors", "rights of the token", within=hub.cache):
        load(repo)
    assert not hub.seen("*", "*pytorch_model.bin")
    assert not (tmp_path / "touched").exists()


def test_a_connection_that_drops_in_mid_body(hub, repo, load, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 2**16)
    hub.fail_next("GET", "/_lfs/get/*", drop_after=500_000)
    assert load(repo).num_classes == 3
    ranges = [r.headers.get("range") for r in hub.requests if r.matches("GET", "/_lfs/get/*")]
    assert ranges[0] is None
    assert ranges[1].startswith("bytes=")


def test_a_commit_upon_a_stale_parent(hub, repo, original):
    model = zoo.create_model(f"local-dir:{original}")
    hub.fail_next("POST", "*/commit/*", status=412)
    pushed = zoo.push_to_hub(model, repo, license="mit", token=hub.token, train_data="other")
    assert HfApi().model_info(repo).sha == pushed.commit


# --- tokens; private, gated, missing ---


def test_a_bad_token(hub, repo, load):
    with refused(AccessDeniedError, repo, "does not accept the token", "hf auth login", within=hub.cache):
        load(repo, token=hub.bad_token)


def test_a_token_that_may_only_read(hub, repo, original):
    model = zoo.create_model(f"local-dir:{original}")
    with refused(AccessDeniedError, repo, "token"):
        zoo.push_to_hub(model, repo, license="mit", token=hub.read_token, train_data="other")


def test_a_private_repository_of_someone_else(hub, repo, load):
    hub.server.storage.update(hub.server.storage.repos[repo], private=True)
    with refused(RepoNotFoundError, repo, "private", "the token may not see it", within=hub.cache):
        load(repo, token=hub.other_token)


def test_a_gated_repository(hub, repo, load):
    hub.server.storage.update(hub.server.storage.repos[repo], gated=True)
    with refused(AccessDeniedError, repo, "accept its terms at", hub.endpoint, within=hub.cache):
        load(repo, token=hub.other_token)


def test_a_missing_repository(hub, load):
    with refused(RepoNotFoundError, "'alice/nothing'", hub.endpoint, within=hub.cache):
        load("alice/nothing")


def test_a_missing_revision(hub, repo, load):
    HfApi(token=hub.token).create_tag(repo, tag="v1.0")
    with refused(RevisionNotFoundError, repo, "'v1.1'", "did you mean 'v1.0'", "main", within=hub.cache):
        load(f"{repo}@v1.1")


def test_a_missing_file(hub, load):
    repo = hub.repo_id()
    HfApi(token=hub.token).create_repo(repo)
    commit(hub, repo, {"config.json": b"{}", "notes.txt": b"x"})
    with refused(FileNotInRepoError, repo, "main", "model.safetensors", "notes.txt", within=hub.cache):
        load(repo)


# --- server down, offline ---


def test_server_down_with_a_cache(hub, repo, load):
    load(repo)
    with hub.down(), pytest.warns(UserWarning, match=rf"cannot be reached.*using {repo}@main"):
        assert load(repo).num_classes == 3


def test_server_down_without_a_cache(hub, repo, load):
    words = (repo, "main", "config.json and weights", str(hub.cache), f"zoo pull {repo} DIR", hub.endpoint)
    with hub.down(), refused(HubUnavailableError, *words, within=hub.cache):
        load(repo)


@pytest.mark.parametrize("how", ["HF_HUB_OFFLINE", "local_files_only"])
@pytest.mark.parametrize("cached", [True, False])
def test_offline(hub, repo, load, monkeypatch, how, cached):
    if cached:
        load(repo)
    asked = len(hub.requests)
    options = {"local_files_only": True} if how == "local_files_only" else {}
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", not options)
    if cached:
        assert load(repo, **options).num_classes == 3
    else:
        with refused(
            HubUnavailableError, repo, "main", str(hub.cache), "may not be used", "zoo pull", within=hub.cache
        ):
            load(repo, **options)
    assert len(hub.requests) == asked


@pytest.mark.parametrize("cached", [pytest.param(True, marks=pytest.mark.ci_long), False])
def test_the_environment_variable_itself(hub, repo, cached):
    code = """
        import sys, zoo
        try:
            print(zoo.create_model("hf-hub:" + sys.argv[1]).num_classes)
        except OSError as error:
            print(type(error).__name__, error)
    """
    if cached:
        hub.run_python(code, repo, HF_HUB_DISABLE_XET="1")
    asked = len(hub.requests)
    said = hub.run_python(code, repo, HF_HUB_OFFLINE="1").stdout
    assert said == "3\n" if cached else said.startswith("HubUnavailableError") and repo in said
    assert len(hub.requests) == asked


def test_a_pinned_commit_needs_no_server(hub, repo, load):
    commit_id = HfApi().model_info(repo).sha
    load(f"{repo}@{commit_id}")
    with hub.down():
        assert load(f"{repo}@{commit_id}").zoo_source["commit"] == commit_id


def test_two_pushes_at_the_same_time(hub, repo, original):
    outcomes = []

    def push(name):
        try:
            model = zoo.create_model(f"local-dir:{original}")
            outcomes.append(zoo.push_to_hub(model, repo, license="mit", token=hub.token, train_data=name).commit)
        except HubError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=push, args=(f"data {i}",)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    commits = [c.commit_id for c in HfApi().list_repo_commits(repo)]
    landed = [c for c in outcomes if isinstance(c, str)]
    assert landed
    assert set(landed) <= set(commits)
    assert all("changed" in str(e) and repo in str(e) for e in outcomes if not isinstance(e, str))
    assert pull(repo, cache_dir=hub.cache).commit == commits[0]


def test_a_repository_whose_only_weights_are_a_pickle(hub, load, tmp_path):
    repo = hub.repo_id()
    HfApi(token=hub.token).create_repo(repo)
    torch.save({"w": Bomb(tmp_path / "touched")}, tmp_path / "w.bin")
    files = {"config.json": b'{"architecture": "test_resnet"}', "pytorch_model.bin": (tmp_path / "w.bin").read_bytes()}
    commit(hub, repo, files)
    words = (repo, "main", "pytorch_model.bin", "allow_pickle=True", "ZOO_ALLOW_PICKLE=1", "zoo convert")
    with refused(PickleRefusedError, *words, within=hub.cache):
        load(repo)
    assert not hub.seen("*", "*pytorch_model.bin")
    with refused(PickleRefusedError, repo, "weights_only=True", within=hub.cache):
        load(repo, allow_pickle=True)
    assert not (tmp_path / "touched").exists()


# --- configurations ---


def with_config(hub, repo, **changes):
    content = json.loads(Path(HfApi().hf_hub_download(repo, "config.json")).read_text())
    content |= changes
    commit(hub, repo, {"config.json": json.dumps(content).encode()})


def test_an_unknown_architecture_written_by_the_zoo(hub, repo, load):
    with_config(hub, repo, architecture="resnet_of_mine", zoo={"format": 1, "version": "7.8"})
    with refused(
        UnknownModelError, repo, "main", "config.json", "'resnet_of_mine'", "zoo 7.8", "upgrade zoo, or import"
    ):
        load(repo)


def test_an_unknown_architecture_written_by_others(hub, repo, load):
    with_config(hub, repo, architecture="test_resnett", zoo={})
    with refused(UnknownModelError, repo, "main", "config.json", "'test_resnett'", "did you mean 'test_resnet'"):
        load(repo)


def test_a_format_of_the_future(hub, repo, load):
    with_config(hub, repo, zoo={"format": 2, "version": "3.0"})
    with refused(ConfigError, repo, "main", "format 2", "zoo 3.0", "pip install -U"):
        load(repo)


def test_a_wrong_sum_in_the_config(hub, repo, load):
    with_config(hub, repo, zoo={"files": {"model.safetensors": {"sha256": "0" * 64}}})
    with refused(ChecksumError, repo, "main", "model.safetensors", "0" * 64, "fetch it again"):
        load(repo)


# --- names and files (the table of inputs) ---


def test_a_place_that_holds_weights_loads_them(saved, hub, repo, load):
    wanted = zoo.create_model("test_resnet", num_classes=3, checkpoint_path=saved / "model.safetensors").fc.weight
    assert torch.equal(zoo.create_model(f"local-dir:{saved}").fc.weight, wanted)
    assert torch.equal(load(repo).fc.weight, wanted)
    torch.manual_seed(1)  # not the seed that the saved model began with, which an earlier test may have left
    assert not torch.equal(load(repo, pretrained=False).fc.weight, wanted)


def test_no_weights_are_registered():
    with refused(WeightsError, "'medvit2_kan_tiny'", "medvit2_kan_nano.digits", "pretrained=False"):
        zoo.create_model("medvit2_kan_tiny", pretrained=True)


def test_a_checkpoint_for_other_classes(saved):
    path = saved / "model.safetensors"
    with refused(WeightsError, str(path), "3 classes", "built for 1000", "num_classes=3"):
        zoo.create_model("test_resnet", checkpoint_path=path)
    assert zoo.create_model("test_resnet", checkpoint_path=path, num_classes=7).fc.out_features == 7


def test_a_checkpoint_that_is_not_there(saved):
    with refused(FileNotFoundError, str(saved / "modl.safetensors"), "did you mean 'model.safetensors'"):
        zoo.create_model("test_resnet", checkpoint_path=saved / "modl.safetensors")


def test_a_file_whose_classes_are_not_the_registered_ones_keeps_its_head(saved):
    model = zoo.create_model(f"local-dir:{saved}")
    overlay = {"file": str(saved / "model.safetensors")}
    again = zoo.create_model("test_resnet", pretrained=True, num_classes=3, pretrained_cfg_overlay=overlay)
    assert torch.equal(again.fc.weight, model.fc.weight)


def test_an_unknown_key_in_pretrained_cfg(saved):
    cfg = json.loads((saved / "config.json").read_text())["pretrained_cfg"]
    name = edited(saved, pretrained_cfg=cfg | {"flux": 3}, zoo={"format": 1, "version": "9.9"})
    with pytest.warns(UserWarning, match=r"config\.json \(written by zoo 9\.9\).*flux"):
        assert zoo.create_model(name).num_classes == 3


def test_an_unknown_key_at_the_top_is_for_others(saved):
    assert zoo.create_model(edited(saved, transformers_version="5")).num_classes == 3


def test_broken_json(saved):
    (saved / "config.json").write_text('{\n "architecture": oops}')
    with refused(ConfigError, str(saved / "config.json"), "line 2"):
        zoo.create_model(f"local-dir:{saved}")


@pytest.mark.parametrize("name", ["w.bin", "w.pth", "w.pt", "w.ckpt", "w.pth.tar"])
def test_a_pickle_with_code(tmp_path, name, monkeypatch):
    torch.save({"w": Bomb(tmp_path / "touched")}, tmp_path / name)
    with refused(PickleRefusedError, name, "allow_pickle=True", "zoo convert"):
        zoo.create_model("test_resnet", checkpoint_path=tmp_path / name)
    monkeypatch.setenv("ZOO_ALLOW_PICKLE", "1")
    with refused(PickleRefusedError, name, "weights_only=True"):
        zoo.create_model("test_resnet", checkpoint_path=tmp_path / name)
    assert not (tmp_path / "touched").exists()


def test_the_environment_allows_pickles_of_tensors(tmp_path, monkeypatch):
    torch.save(zoo.create_model("test_resnet", num_classes=3).state_dict(), tmp_path / "w.pth")
    monkeypatch.setenv("ZOO_ALLOW_PICKLE", "1")
    assert zoo.create_model("test_resnet", num_classes=3, checkpoint_path=tmp_path / "w.pth").num_classes == 3


def test_a_truncated_safetensors_file(saved):
    edited(saved, zoo=None)
    path = saved / "model.safetensors"
    size = path.stat().st_size
    os.truncate(path, size - 100)
    with refused(CorruptFileError, str(path), f"{size:,}", f"{size - 100:,}", "delete it and fetch"):
        zoo.create_model(f"local-dir:{saved}")


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_values_that_are_not_finite(saved, value):
    edited(saved, zoo=None)
    state = {k: v.clone() for k, v in zoo.create_model(f"local-dir:{saved}").state_dict().items()}
    state["fc.bias"][1] = float(value)
    save_file(state, saved / "model.safetensors")
    with refused(NonFiniteWeightsError, str(saved), "'fc.bias'", "check_finite=False"):
        zoo.create_model(f"local-dir:{saved}")


# --- what the stock client gets wrong ---


def test_config_and_weights_are_of_one_commit(hub, repo, load):
    first = HfApi().model_info(repo).sha
    model = load(repo)
    assert model.zoo_source["commit"] == first
    assert {r.path.split("/")[4] for r in hub.requests if "/resolve/" in r.path} == {first}


def test_what_was_compared_once_and_has_changed_since_is_compared_again(hub, repo, load):
    load(repo)
    path = next(hub.cache.glob("models--*/snapshots/*/model.safetensors")).resolve()
    time.sleep(0.1)
    load(repo)  # the result is remembered now
    path.chmod(0o644)
    with open(path, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x7f")
    with refused(ChecksumError, repo, "model.safetensors", str(path), "delete it"):
        load(repo)


def test_code_in_a_repository_is_neither_fetched_nor_run(hub, repo, load, tmp_path):
    code = f"open({str(tmp_path / 'touched')!r}, 'w')".encode()
    with_config(hub, repo, auto_map={"AutoModel": "modeling.Model"}, trust_remote_code=True)
    commit(hub, repo, {"modeling.py": code, "test_resnet.py": code, "setup.py": code})
    assert load(repo).num_classes == 3
    assert not hub.seen("*", "*.py")
    assert not (tmp_path / "touched").exists()


def test_an_answer_without_the_commit_tells_the_real_cause(hub, repo, load):
    real = hub.server.answer

    def answer(request):
        result = real(request)
        if request.path.endswith("/model.safetensors"):
            result.headers.pop("X-Repo-Commit", None)
        return result

    hub.server.answer = answer
    try:
        with refused(HubError, repo, "main", "model.safetensors", "X-Repo-Commit", within=hub.cache):
            load(repo)
    finally:
        del hub.server.answer
    assert not hub.seen("*", "*pytorch_model.bin")


def test_a_model_of_one_channel_has_its_own_data_configuration(tmp_path):
    zoo.save_pretrained(zoo.create_model("test_resnet", in_chans=1), tmp_path / "m")
    assert zoo.data_config(zoo.create_model(f"local-dir:{tmp_path / 'm'}"))["input_size"][0] == 1


def test_a_new_classifier_is_of_the_kind_of_the_old(tmp_path):
    zoo.save_pretrained(zoo.create_model("test_resnet", head="kan", num_classes=3), tmp_path / "m")
    model = zoo.create_model(f"local-dir:{tmp_path / 'm'}")
    before = type(model.get_classifier())
    model.reset_classifier(5)
    assert type(model.get_classifier()) is before


# --- what people change by hand ---


def test_an_architecture_that_was_changed_by_hand(saved):
    words = (str(saved / "config.json"), str(saved / "model.safetensors"), "resnet10t(", "first 'conv1.0.weight'")
    with refused(MismatchError, *words, "one of the two files was changed"):
        zoo.create_model(edited(saved, architecture="resnet10t"))


def test_arguments_that_no_longer_fit(saved):
    args = json.loads((saved / "config.json").read_text())["model_args"]
    words = (str(saved / "config.json"), "stem_width=48", "first 'conv1.0.weight': (16, 3, 3, 3) in the file")
    with refused(MismatchError, *words):
        zoo.create_model(edited(saved, model_args=args | {"stem_width": 48}))


def test_an_argument_that_the_architecture_does_not_take(saved):
    args = json.loads((saved / "config.json").read_text())["model_args"]
    with refused(ConfigError, str(saved / "config.json"), "test_resnet(", "'embed_dim'"):
        zoo.create_model(edited(saved, model_args=args | {"embed_dim": 64}))


@pytest.mark.parametrize(
    ("requires", "said"),
    [
        ({"timm": ">=99"}, "needs timm >=99, here is"),
        ({"zoo": ">=99"}, "pip install -U 'zoo-layers>=99'"),
        ({"no-such-package-here": ">=1"}, "it is not installed"),
        ({"timm": "new"}, "is no version"),
        ({"timm": 5}, "is no requirement"),
    ],
)
def test_requirements_that_are_not_met(saved, requires, said):
    with refused(ConfigError, str(saved / "config.json"), said):
        zoo.create_model(edited(saved, zoo={"format": 1, "version": "0.1.0", "requires": requires}))


def test_class_counts_that_contradict_each_other(saved):
    with pytest.warns(UserWarning, match=r"config\.json says num_classes 5, its model_args say 3"):
        model = zoo.create_model(edited(saved, num_classes=5))
    assert model.num_classes == 3


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"img_size": 10**9}, ValueError, "img_size must be at most 8,192 pixels a side, got 1000000000"),
        ({"img_size": (32, 10**9)}, ValueError, "got (32, 1000000000)"),
        ({"img_size": "big"}, TypeError, "img_size must be an int ≥ 1, got 'big'"),
        ({"drop_rate": "a"}, TypeError, "drop_rate must be a number in [0, 1), got 'a'"),
        ({"pos_drop_rate": [0.1]}, TypeError, "pos_drop_rate must be a number in [0, 1), got [0.1]"),
        ({"drop_path_rate": float("nan")}, ValueError, "drop_path_rate must be in [0, 1), got nan"),
        ({"embed_dim": "a"}, TypeError, "vit_tiny_patch16_224 cannot be built with embed_dim='a'"),
        ({"depth": 2.5}, TypeError, "vit_tiny_patch16_224 cannot be built with depth=2.5"),
        ({"num_heads": 0}, ValueError, "vit_tiny_patch16_224 cannot be built with num_heads=0"),
    ],
)
def test_absurd_options(options, error, said):
    with refused(error, said):
        zoo.create_model("vit_tiny_patch16_224", **options)


# --- what strangers write ---


def hostile(saved, text):
    (saved / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return f"local-dir:{saved}"


def sound(saved, **changes):
    return json.dumps({**json.loads((saved / "config.json").read_text()), **changes})


TEXTS = {
    "deep nesting": (lambda s: '{"a":' * 200_000 + "1" + "}" * 200_000, "nested more than"),
    "some nesting": (lambda s: sound(s, extra=json.loads("[" * 100 + "]" * 100)), "nested more than 64 levels"),
    "NaN": (lambda s: sound(s)[:-1] + ', "x": NaN}', "NaN is no JSON number"),
    "Infinity": (lambda s: sound(s)[:-1] + ', "x": -Infinity}', "-Infinity is no JSON number"),
    "beyond a float": (lambda s: sound(s)[:-1] + ', "x": 1e999}', "beyond what a float holds"),
    "a key twice": (lambda s: sound(s)[:-1] + ', "architecture": "resnet18"}', "the key 'architecture' appears twice"),
    "a huge number": (lambda s: sound(s)[:-1] + f', "x": {"9" * 10_000}}}', "does not fit into 64 bits"),
    "NUL in a name": (lambda s: sound(s)[:-1] + ', "a\\u0000b": 1}', "no text"),
    "half a pair": (lambda s: sound(s)[:-1] + ', "x": "\\ud800"}', "no text"),
    "a raw NUL": (lambda s: sound(s)[:-1] + ', "x": "\0"}', "not valid JSON"),
    "eleven megabytes": (lambda s: sound(s, x="y" * 11_000_000), "at most 10,000,000 are read"),
    "a byte order mark": (lambda s: b"\xef\xbb\xbf" + sound(s).encode(), "save it as UTF-8"),
    "UTF-16": (lambda s: sound(s).encode("utf-16"), "begins with UTF-16"),
    "Latin-1": (lambda s: b'{"architecture": "\xe9"}', "not UTF-8 text"),
    "empty": (lambda s: b"", "not valid JSON"),
    "a list": (lambda s: "[]", "holds a list, not an object"),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_texts_that_are_no_description(saved, kind):
    make, said = TEXTS[kind]
    with refused(ConfigError, str(saved / "config.json"), said, seconds=2):
        zoo.create_model(hostile(saved, make(saved)))


def test_ten_million_labels(saved):
    with refused(ConfigError, str(saved / "config.json"), "at most 10,000,000 are read", seconds=5):
        zoo.create_model(hostile(saved, sound(saved, label_names=["a"] * 10**7)))
    with refused(ConfigError, str(saved / "config.json"), "1000000 label_names for num_classes 3", seconds=5):
        zoo.create_model(hostile(saved, json.dumps({**json.loads(sound(saved)), "label_names": [1] * 10**6})))


ARCHITECTURES = {
    "../../evil.py": "is no name of a model",
    "/etc/passwd": "is no name of a model",
    "hf-hub:alice/evil": "is no name of a model",
    "zoo.layers.kan:KANHead": "is no name of a model",
    "os.system": "unknown architecture 'os.system'",
    "torch.nn.Linear": "unknown architecture",
    "__import__('os')": "is no name of a model",
    "x" * 5000: "(5,000 characters)",
    "resnet\n18": "is no name of a model",
}


@pytest.mark.parametrize("name", ARCHITECTURES, ids=lambda name: name[:20])
def test_architectures_that_are_paths_or_modules(saved, name):
    with refused((ConfigError, UnknownModelError), str(saved / "config.json"), ARCHITECTURES[name], seconds=2):
        zoo.create_model(edited(saved, architecture=name, zoo=None))


NAMES = ["../model.safetensors", "/etc/passwd", "a/../../x", "C:\\x", "..", "", "a\\b", "x/"]


@pytest.mark.parametrize("name", NAMES)
def test_recorded_files_that_are_elsewhere(saved, name):
    with refused(ConfigError, str(saved / "config.json"), "zoo.files names", "no file inside the folder"):
        zoo.create_model(edited(saved, zoo={"files": {name: {"sha256": "0" * 64}}}))


@pytest.mark.parametrize("name", NAMES)
def test_shards_that_are_elsewhere(saved, name):
    (saved / "model.safetensors").rename(saved.parent / "model.safetensors")
    (saved / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"fc.weight": name}}))
    with refused(ConfigError, "model.safetensors.index.json", "not a safetensors file beside it"):
        zoo.create_model(edited(saved, zoo=None))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("target", ["/dev/zero", "pipe", "folder", "nowhere"])
def test_links_to_what_is_no_file(saved, name, target):
    (saved / name).unlink()
    if target == "pipe":
        os.mkfifo(saved.parent / "pipe")
    if target == "folder":
        (saved.parent / "folder").mkdir()
    (saved / name).symlink_to(target if target.startswith("/") else saved.parent / target)
    with refused(FileNotFoundError, str(saved), name, seconds=2):
        zoo.create_model(f"local-dir:{saved}")


GIGANTIC = {
    "embed_dim": 10**7,
    "num_heads": 2**62,
    "depth": 10**6,
    "depths": [10**6] * 4,
    "layers": [4000] * 4,
    "stem_width": 10**6,
    "block_args": {"x": 10**9},
    "img_size": 10**9,
    "in_chans": 10**6,
    "num_classes": 10**12,
    "mlp_ratio": 1e300,
    "drop_rate": -1,
    "head": {"type": "kan", "num_centres": 10**6},
    "x" * 200: 1,
    "a b": 1,
    "pretrained": True,
    "checkpoint_path": "/etc/passwd",
    "cache_dir": "/tmp",
    "device": "cuda:99",
    "many": list(range(30_000)),
    "long": "y" * 20_000,
}


@pytest.mark.parametrize("key", GIGANTIC, ids=lambda key: key[:20])
def test_arguments_that_no_model_has_are_refused_before_memory_is_taken(saved, key):
    args = json.loads((saved / "config.json").read_text())["model_args"]
    name = edited(saved, model_args=args | {key: GIGANTIC[key]})
    before = peak()
    with refused((ConfigError, MismatchError), str(saved / "config.json"), seconds=4):
        zoo.create_model(name)
    assert peak() - before < 100_000


def test_a_composition_as_deep_as_a_tower_and_as_wide_as_the_sea(tmp_path):
    zoo.save_pretrained(zoo.create_model("test_vit", num_classes=3, mlp="kan", img_size=32), tmp_path / "m")
    args = json.loads((tmp_path / "m/config.json").read_text())["model_args"]
    for change in ({"depth": 4000}, {"embed_dim": 999_936, "num_heads": 1}, {"mlp_ratio": 1e9}):
        before = peak()
        with refused((ConfigError, MismatchError), "config.json", "zoo_composite(", seconds=8):
            zoo.create_model(edited(tmp_path / "m", model_args=args | change))
        assert peak() - before < 100_000


def peak():
    """High-water mark of this process's memory in kB."""
    return next(int(x.split()[1]) for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
