"""Atomic writes: whole or not at all."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time

import pytest

from zoo.files import atomic_folder, atomic_path, clear_leftovers, sha256_file, write_json, write_text
from zoo.naming import check_keywords, did_you_mean, natural_key


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    write_text(target, "old")
    with pytest.raises(RuntimeError, match="half way"), atomic_path(target) as temporary:
        temporary.write_text("new and incomp")
        raise RuntimeError("half way")
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_failed_write_leaves_no_new_file(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "sub" / "a.txt") as temporary:
        temporary.write_text("x")
        raise KeyboardInterrupt
    assert names(tmp_path / "sub") == []


def test_a_folder_is_replaced_whole(tmp_path):
    target = tmp_path / "model"
    with atomic_folder(target) as folder:
        (folder / "a").write_text("1")
        (folder / "b").write_text("1")
    with atomic_folder(target) as folder:
        (folder / "a").write_text("2")
    assert names(target) == ["a"]
    assert (target / "a").read_text() == "2"
    with pytest.raises(OSError, match="disk"), atomic_folder(target) as folder:
        (folder / "a").write_text("3")
        raise OSError("disk full")
    assert (target / "a").read_text() == "2"
    assert names(tmp_path) == ["model"]


def test_what_a_crash_left_is_removed_when_it_is_a_day_old(tmp_path):
    old, young = tmp_path / "a.txt.tmp-1-1", tmp_path / "a.txt.tmp-2-2"
    for path in (old, young):
        path.write_text("half")
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    write_text(tmp_path / "a.txt", "whole")
    assert names(tmp_path) == ["a.txt", young.name]


def test_json_refuses_nan_and_keeps_the_old_file(tmp_path):
    write_json(tmp_path / "m.json", {"accuracy": 0.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "m.json", {"accuracy": float("nan")})
    assert (tmp_path / "m.json").read_text() == '{\n  "accuracy": 0.5\n}\n'


def test_sha256(tmp_path):
    (tmp_path / "f").write_bytes(b"zoo" * 1000)
    assert sha256_file(tmp_path / "f") == hashlib.sha256(b"zoo" * 1000).hexdigest()


def test_names():
    assert sorted(["n101", "n18", "N2"], key=natural_key) == ["N2", "n18", "n101"]
    assert did_you_mean("num_class", ["num_classes", "in_chans"]) == "; did you mean 'num_classes'?"
    assert did_you_mean("qqq", ["num_classes"]) == ""
    with pytest.raises(TypeError, match=r"net takes no argument 'x'\. Accepted: in_chans, num_classes"):
        check_keywords(["x"], ["num_classes", "in_chans"], "net")
    check_keywords(["in_chans"], ["num_classes", "in_chans"], "net")


def test_what_the_dead_left_is_removed_and_what_the_living_write_is_not(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    names = [f"it.tmp-{process}-5" for process in (ended.pid, os.getpid(), os.getppid())]
    for name in (*names, f"other.tmp-{ended.pid}-5", "it.tmp-mine"):
        (tmp_path / name).mkdir()
    clear_leftovers(tmp_path / "it")
    assert {p.name for p in tmp_path.iterdir()} == {names[2], f"other.tmp-{ended.pid}-5", "it.tmp-mine"}


def test_a_folder_that_stepped_aside_for_nothing_comes_back(tmp_path):
    for moment, text in ((5, "new"), (6, "old")):
        (tmp_path / f"it.tmp-{os.getpid()}-{moment}").mkdir()
        (tmp_path / f"it.tmp-{os.getpid()}-{moment}" / "file").write_text(text)
    clear_leftovers(tmp_path / "it")
    assert [p.name for p in tmp_path.iterdir()] == ["it"]
    assert (tmp_path / "it" / "file").read_text() == "old"
