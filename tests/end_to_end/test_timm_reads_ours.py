"""What the zoo publishes is read by timm in a fresh process: by timm alone if it knows the model, else with the zoo."""

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import HfApi

import zoo

# Compares with the original's output bit for bit, and says whether the zoo was imported.
READ = """
import sys
{imports}
import numpy as np, timm, torch
repo, folder, *unreadable = sys.argv[1:]
model = timm.create_model("hf-hub:" + repo, pretrained=True).eval()
with torch.no_grad():
    output = model(torch.from_numpy(np.load(folder + "/input.npy"))).numpy()
same = output.tobytes() == np.load(folder + "/output.npy").tobytes()
print(same, "zoo" in sys.modules, model.pretrained_cfg["label_names"], model.pretrained_cfg["num_classes"])
for repo in unreadable:
    try:
        timm.create_model("hf-hub:" + repo, pretrained=True)
    except RuntimeError as error:
        print(error)
"""
NAMES = ["benign", "malignant", "unclear"]


@pytest.fixture(autouse=True)
def one_thread():
    """The number of threads may change the last bit; the other process has one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def made(name: str, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    model = zoo.create_model(name, num_classes=3)
    model.pretrained_cfg["label_names"] = NAMES
    return model.eval()


def keep_output(model: torch.nn.Module, folder, size: int) -> None:
    image = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        output = model(image)
    np.save(folder / "input.npy", image.numpy())
    np.save(folder / "output.npy", output.numpy())


def same_tensors(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_timm_alone_reads_a_plain_timm_model_and_names_what_it_lacks(hub, tmp_path, transfer):
    repo, ours = hub.repo_id("plain"), hub.repo_id("medvit")
    model = made("resnet10t")
    zoo.push_to_hub(model, repo, license="mit")
    zoo.push_to_hub(made("medvit2_kan_nano"), ours, license="mit")
    keep_output(model, tmp_path, 64)
    done = hub.run_python(READ.format(imports=""), repo, str(tmp_path), ours)
    assert done.stdout.splitlines() == [f"True False {NAMES} 3", "Unknown model (medvit2_kan_nano)"]
    used = hub.seen("GET", "*/xet-read-token/*"), hub.seen("GET", "/_lfs/get/*")
    assert (bool(used[0]), bool(used[1])) == ((True, False) if transfer == "xet" else (False, True))


@pytest.mark.parametrize("transfer", ["xet"], indirect=True)
def test_timm_reads_our_own_model_after_import_zoo(hub, tmp_path, transfer):
    repo = hub.repo_id("medvit")
    model = made("medvit2_kan_nano")
    zoo.push_to_hub(model, repo, license="mit", tag="v1")
    zoo.push_to_hub(made("medvit2_kan_nano", seed=2), repo, license="mit")  # main moves on, the tag does not
    keep_output(model, tmp_path, 32)
    done = hub.run_python(READ.format(imports="import zoo"), f"{repo}@v1", str(tmp_path))
    assert done.stdout.splitlines() == [f"True True {NAMES} 3"]


def test_pull_by_branch_tag_and_commit(hub, transfer):
    repo = hub.repo_id("medvit")
    old, new = made("medvit2_kan_nano", seed=3), made("medvit2_kan_nano", seed=4)
    first = zoo.push_to_hub(old, repo, license="mit", tag="v1")
    second = zoo.push_to_hub(new, repo, license="mit")
    for revision, expected, commit in [
        ("v1", old, first.commit),
        (first.commit, old, first.commit),
        ("main", new, second.commit),
        (None, new, second.commit),
    ]:
        model = zoo.create_model(f"hf-hub:{repo}" + (f"@{revision}" if revision else ""))
        assert same_tensors(model, expected), revision
        assert model.zoo_source["commit"] == commit
        assert model.zoo_source["repo"] == repo


def test_what_timm_publishes_the_zoo_reads(hub, tmp_path, transfer):
    repo = hub.repo_id("timm")
    model = timm.create_model("resnet10t", num_classes=3)
    timm.models.push_to_hf_hub(model, repo, model_config={"label_names": NAMES})
    assert same_tensors(zoo.create_model(f"hf-hub:{repo}"), model)


def test_private_missing_and_gated_repositories_are_the_zoos_errors(hub, monkeypatch):
    repo = hub.repo_id("private")
    model = made("medvit2_kan_nano")
    zoo.push_to_hub(model, repo, license="mit", private=True)
    assert same_tensors(zoo.create_model(f"hf-hub:{repo}"), model)
    with pytest.raises(zoo.errors.RepoNotFoundError, match=r"alice/absent.*token may not see it"):
        zoo.create_model("hf-hub:alice/absent")
    with pytest.raises(zoo.errors.RevisionNotFoundError, match=r"no revision 'v9'.*Branches: main"):
        zoo.create_model(f"hf-hub:{repo}@v9")
    monkeypatch.setenv("HF_TOKEN", hub.other_token)
    with pytest.raises(zoo.errors.RepoNotFoundError, match=repo):
        zoo.create_model(f"hf-hub:{repo}")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(zoo.errors.RepoNotFoundError, match="no token was given"):
        zoo.create_model(f"hf-hub:{repo}")
    monkeypatch.setenv("HF_TOKEN", hub.bad_token)
    with pytest.raises(zoo.errors.AccessDeniedError, match="does not accept the token"):
        zoo.create_model(f"hf-hub:{repo}")


def test_a_gated_repository_is_refused_until_its_terms_are_accepted(hub, monkeypatch):
    repo = hub.repo_id("gated")
    model = made("medvit2_kan_nano")
    zoo.push_to_hub(model, repo, license="mit")
    HfApi(token=hub.token).update_repo_settings(repo, gated="auto")
    monkeypatch.setenv("HF_TOKEN", hub.other_token)
    with pytest.raises(zoo.errors.AccessDeniedError, match="is gated"):
        zoo.create_model(f"hf-hub:{repo}")
    hub.server.storage.update(hub.server.storage.repos[repo], granted=["bob"])
    assert same_tensors(zoo.create_model(f"hf-hub:{repo}"), model)


def test_a_read_token_cannot_push(hub, monkeypatch):
    repo = hub.repo_id("medvit")
    HfApi(token=hub.token).create_repo(repo)
    with pytest.raises(zoo.errors.AccessDeniedError, match=repo):
        zoo.push_to_hub(made("medvit2_kan_nano"), repo, license="mit", token=hub.read_token)
    assert HfApi(token=hub.token).list_repo_files(repo) == [".gitattributes"]
