"""`hf:user/dataset` from a Hub: the commit is fixed and noted, nothing is executed, refusals say what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features
from datasets import Image as ImageFeature
from huggingface_hub import HfApi
from PIL import Image

import zoo
from tests.hub.fixtures import Hub
from tests.training.helpers import tiny_net
from zoo.errors import DataError, RepoNotFoundError, RevisionNotFoundError
from zoo.training.data import open_splits

CARD = "---\nlicense: cc-by-4.0\n---\nShades.\n"


def parquet(path: Path, values: list[int]) -> Path:
    images = [Image.fromarray(np.full((8, 8), v, np.uint8)) for v in values]
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=["cat", "dog"])})
    labels = [i % 2 for i in range(len(values))]
    Dataset.from_dict({"image": images, "label": labels}, features=features).to_parquet(path)
    return path


@pytest.fixture
def api(hub: Hub) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=hub.token)


@pytest.fixture
def repo(hub: Hub, api: HfApi, tmp_path: Path) -> str:
    """A data set of four images and two, in main and under the tag v1; main has moved on since."""
    repo_id = hub.repo_id("shades")
    api.create_repo(repo_id, repo_type="dataset")
    files = {"README.md": CARD.encode()}
    files["data/train-00000-of-00001.parquet"] = parquet(tmp_path / "a", [10, 60, 110, 160]).read_bytes()
    files["data/test-00000-of-00001.parquet"] = parquet(tmp_path / "b", [20, 70]).read_bytes()
    for path, content in files.items():
        api.upload_file(path_or_fileobj=content, path_in_repo=path, repo_id=repo_id, repo_type="dataset")
    api.create_tag(repo_id, tag="v1", repo_type="dataset")
    more = parquet(tmp_path / "c", [10, 60, 110, 160, 210, 250]).read_bytes()
    name = "data/train-00000-of-00001.parquet"
    api.upload_file(path_or_fileobj=more, path_in_repo=name, repo_id=repo_id, repo_type="dataset")
    return repo_id


def test_a_data_set_of_the_hub_at_its_commit(hub: Hub, api: HfApi, repo: str) -> None:
    hub.requests.clear()
    splits = open_splits(f"hf:{repo}", val=False)
    train = splits.present()["train"]
    assert splits.name == repo.split("/")[1]
    assert (train.classes, len(train), len(splits.present()["test"])) == (["cat", "dog"], 6, 2)
    assert [train.image(i).getpixel((0, 0)) for i in range(6)] == [10, 60, 110, 160, 210, 250]
    commit = api.dataset_info(repo).sha
    assert splits.facts == {
        "name": repo,
        "hub_id": repo,
        "url": f"{hub.endpoint}/datasets/{repo}",
        "revision": commit,
        "licence": "cc-by-4.0",
    }
    # Every file is asked for by commit: a push in between cannot mix two versions.
    assert hub.seen("GET", "*/resolve/*.parquet")
    assert all(f"/resolve/{commit}/" in line for line in hub.seen("*", "*/resolve/*"))


def test_a_tag_is_resolved(api: HfApi, repo: str) -> None:
    splits = open_splits(f"hf:{repo}@v1", val=False)
    assert len(splits.present()["train"]) == 4
    refs = api.list_repo_refs(repo, repo_type="dataset")
    assert splits.facts["revision"] == refs.tags[0].target_commit
    assert splits.facts["revision"] != api.dataset_info(repo).sha
    by_commit = open_splits(f"hf:{repo}@{splits.facts['revision']}", val=False)
    assert len(by_commit.present()["train"]) == 4


def test_what_is_measured_names_its_data(api: HfApi, repo: str) -> None:
    model = tiny_net(num_classes=2)
    measured = zoo.evaluate(model, f"hf:{repo}", detail=True, progress=False)
    assert (measured["split"], measured["dataset_type"], measured["samples"]) == ("test", repo, 2)
    assert measured["facts"]["revision"] == api.dataset_info(repo).sha


def test_configurations(hub: Hub, api: HfApi, tmp_path: Path) -> None:
    repo = hub.repo_id("two")
    api.create_repo(repo, repo_type="dataset")
    card = (
        "---\nconfigs:\n- config_name: small\n  data_files: small/*.parquet\n"
        "- config_name: large\n  data_files: large/*.parquet\n---\n"
    )
    api.upload_file(path_or_fileobj=card.encode(), path_in_repo="README.md", repo_id=repo, repo_type="dataset")
    for name, values in (("small", [1, 2]), ("large", [1, 2, 3, 4])):
        content = parquet(tmp_path / name, values).read_bytes()
        api.upload_file(
            path_or_fileobj=content, path_in_repo=f"{name}/train.parquet", repo_id=repo, repo_type="dataset"
        )
    for text, count in ((":small", 2), (":large", 4), ("@main:large", 4), ("?config=small", 2)):
        assert len(open_splits(f"hf:{repo}{text}", val=False).present()["train"]) == count
    with pytest.raises(DataError, match=r"'small', 'large'.*choose one: 'hf:USER/DATASET:CONFIG'"):
        open_splits(f"hf:{repo}")
    with pytest.raises(DataError, match="BuilderConfig 'medium' not found"):
        open_splits(f"hf:{repo}:medium")


def test_a_script_is_not_run(hub: Hub, api: HfApi, tmp_path: Path) -> None:
    repo, touched = hub.repo_id("script"), tmp_path / "touched"
    api.create_repo(repo, repo_type="dataset")
    script = f"open({str(touched)!r}, 'w').write('run')\n".encode()
    name = repo.split("/")[1]
    api.upload_file(path_or_fileobj=script, path_in_repo=f"{name}.py", repo_id=repo, repo_type="dataset")
    with pytest.raises(DataError, match="scripts are no longer supported"):
        open_splits(f"hf:{repo}")
    assert not touched.exists()


def test_what_is_not_there(hub: Hub, repo: str) -> None:
    with pytest.raises(RepoNotFoundError, match="there is no repository 'datasets/alice/nothing' on http"):
        open_splits("hf:alice/nothing")
    with pytest.raises(RevisionNotFoundError, match=f"'datasets/{repo}' has no revision 'v9'"):
        open_splits(f"hf:{repo}@v9")
    with pytest.raises(DataError, match=r"has no column 'lable'; there: 'image' \(Image\), 'label' \(ClassLabel\)"):
        open_splits(f"hf:{repo}?label=lable")


def test_a_data_set_without_images(hub: Hub, api: HfApi) -> None:
    repo = hub.repo_id("texts")
    api.create_repo(repo, repo_type="dataset")
    with pytest.raises(DataError, match="cannot read 'hf:alice/texts"):
        open_splits(f"hf:{repo}")
    api.upload_file(
        path_or_fileobj=b"text,label\na,0\nb,1\n", path_in_repo="train.csv", repo_id=repo, repo_type="dataset"
    )
    with pytest.raises(DataError, match=r"no column for the image; there: 'text' \(\w+\), 'label' \(int64\)"):
        open_splits(f"hf:{repo}")


def test_a_gated_or_private_data_set(hub: Hub, repo: str) -> None:
    stored: Any = hub.server.storage.repos[f"datasets/{repo}"]
    code = f"from zoo.training.data import open_splits\nprint(len(open_splits('hf:{repo}', val=False).train))"
    hub.server.storage.update(stored, gated="manual")
    done = hub.run_python(code, check=False, HF_TOKEN=hub.other_token)
    assert (
        f"AccessDeniedError: 'datasets/{repo}' is gated: accept its terms at {hub.endpoint}/datasets/{repo}"
        in done.stderr
    )
    assert hub.run_python(code, HF_TOKEN=hub.token).stdout == "6\n"
    hub.server.storage.update(stored, gated=False, private=True)
    done = hub.run_python(code, check=False, HF_TOKEN=None)
    assert "RepoNotFoundError: there is no repository" in done.stderr
    assert "no token was given" in done.stderr


@pytest.mark.ci_long
def test_without_a_connection_the_cache_serves(hub: Hub, api: HfApi, repo: str) -> None:
    code = """
        import sys
        from zoo.training.data import open_splits
        splits = open_splits(sys.argv[1], val=False)
        print(len(splits.train), splits.train.image(5).getpixel((0, 0)), splits.facts["revision"])
        print(*splits.notes)
    """
    first = ["6", "250", api.dataset_info(repo).sha]
    assert hub.run_python(code, f"hf:{repo}").stdout.split() == first
    hub.requests.clear()
    offline = hub.run_python(code, f"hf:{repo}", HF_HUB_OFFLINE="1").stdout
    assert offline.split()[:3] == first
    assert f"HF_HUB_OFFLINE forbids asking {hub.endpoint}; taken from the cache: {repo} at {first[2]}" in offline
    assert not hub.requests
    with hub.down():
        assert hub.run_python(code, f"hf:{repo}@{first[2]}", timeout=30).stdout.split()[:3] == first
        for other in (f"{repo}@v1", "alice/never-seen"):  # the copy in the cache is not the tag's
            done = hub.run_python(code, f"hf:{other}", check=False, timeout=30)
            assert f"HubUnavailableError: {hub.endpoint} cannot be reached for 'datasets/" in done.stderr
