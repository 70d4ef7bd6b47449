"""Twenty pushes from four processes to one repository, and a reader meanwhile: no commit is lost, none is a mixture."""

import json
import subprocess
import sys
import time

import pytest
from safetensors.torch import load as load_bytes

import zoo

PUSHES, PROCESSES = 5, 4

# Each model carries a number, in its config and in its weights. A push that lost to another is made again, twice.
WRITER = """
import json, sys, threading
import zoo
from zoo.errors import HubError

repo, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
models = {}
for number in range(first, first + count):
    models[number] = zoo.create_model("test_resnet", num_classes=2)
    models[number].fc.bias.data.fill_(number)
done, lost, failed = {}, [], []

def push(number):
    for _ in range(3):
        try:
            facts = {"license": "mit", "training": {"number": number}, "verify": False}
            done[number] = zoo.push_to_hub(models[number], repo, commit_message=f"Push {number}", **facts).commit
            return
        except HubError as error:
            (lost if "someone else changed" in str(error) else failed).append(str(error))

print("ready", flush=True)
sys.stdin.readline()
threads = [threading.Thread(target=push, args=(number,)) for number in models]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(json.dumps({"done": done, "lost": lost, "failed": failed}))
"""

READER = """
import json, sys, threading
from safetensors.torch import load_file
from zoo.weights.hub import pull

seen, stop = [], threading.Event()
print("ready", flush=True)
threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
while not stop.is_set():
    snapshot = pull(sys.argv[1])
    weights = load_file(snapshot.weights[0])["fc.bias"][0].item()
    seen.append([snapshot.commit, snapshot.config.zoo["training"]["number"], weights])
print(json.dumps(seen))
"""


def start(hub, code, *arguments):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    env = hub.env(HF_HUB_DISABLE_XET="1", OMP_NUM_THREADS="1", HF_HUB_DISABLE_PROGRESS_BARS="1")
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], env=env, text=True, **pipes)


def finish(process, said=""):
    out, err = process.communicate(said, timeout=60)
    assert process.returncode == 0, err
    return json.loads(out)


@pytest.mark.ci_long
def test_twenty_pushes_at_once_and_a_reader(hub):
    repo = hub.repo_id()
    model = zoo.create_model("test_resnet", num_classes=2)
    model.fc.bias.data.fill_(0)
    zoo.push_to_hub(model, repo, license="mit", training={"number": 0}, commit_message="Push 0")
    writers = [start(hub, WRITER, repo, 1 + i * PUSHES, PUSHES) for i in range(PROCESSES)]
    reader = start(hub, READER, repo)
    for process in (*writers, reader):
        assert process.stdout.readline() == "ready\n", process.stderr.read()
    begin = time.monotonic()
    for process in writers:
        process.stdin.write("\n")
        process.stdin.flush()
    results = [finish(process) for process in writers]
    seen = finish(reader, "\n")
    assert time.monotonic() - begin < 60

    done = {int(number): commit for result in results for number, commit in result["done"].items()}
    lost = [message for result in results for message in result["lost"]]
    assert [message for result in results for message in result["failed"]] == []
    assert len(done) > 2, "too few pushes came through: the test has shown nothing"
    assert lost, "no two pushes met: the test has shown nothing"
    assert all(repo in message and "'Push " in message for message in lost)

    stored = hub.server.storage.repos[repo]
    log = stored.history("main")
    assert sorted(c.title for c in log[:-2]) == sorted(f"Push {number}" for number in done)
    inside = {}
    for commit in log[:-1]:
        config, weights = (commit.files[name].sha256 for name in ("config.json", "model.safetensors"))
        number = json.loads(hub.server.storage.blob(config).read_bytes())["zoo"]["training"]["number"]
        assert load_bytes(hub.server.storage.blob(weights).read_bytes())["fc.bias"].tolist() == [number, number]
        assert commit.title == f"Push {number}"
        inside[commit.oid] = number
    assert {number: commit for commit, number in inside.items() if number} == done

    assert len({commit for commit, *_ in seen}) > 2, "the reader saw no change: the test has shown nothing"
    assert all(config == weights == inside[commit] for commit, config, weights in seen)
