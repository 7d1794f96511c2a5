"""The per-user cache computes arrays once, repairs damaged files, and works without permission to write."""

import dataclasses
import hashlib
import multiprocessing
import os

import numpy as np
import pytest

from research.data import cache
from research.data.audit import audit
from research.data.cache import cache_folder, cached, evict
from research.data.tokenizer import intern_texts
from research.runs.texts import intern_corpus
from research.settings import Data


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def counting():
    calls = []

    def make():
        calls.append(1)
        return {"n": np.arange(3, dtype=np.int32)}

    return calls, make


def test_arrays_are_computed_once_for_each_key():
    calls, make = counting()
    for made_from in ("a", "a", "b"):
        found = cached("kind", made_from, make)
        assert found["n"].tolist() == [0, 1, 2]
        assert found["n"].dtype == np.int32
    assert len(calls) == 2


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"\x93NUMPY junk"])
def test_a_damaged_file_is_computed_again(content):
    calls, make = counting()
    cached("kind", "a", make)
    (path,) = cache_folder("kind").iterdir()
    path.write_bytes(content)
    assert cached("kind", "a", make)["n"].tolist() == [0, 1, 2]
    assert cached("kind", "a", make)["n"].tolist() == [0, 1, 2]
    assert len(calls) == 2


def test_arrays_are_computed_where_nothing_can_be_written(folder):
    folder.write_text("a file where the folder would be")
    calls, make = counting()
    assert [cached("kind", "a", make)["n"].tolist() for _ in range(2)] == [[0, 1, 2]] * 2
    assert len(calls) == 2


def age(made_from, when):
    path = cache_folder("kind") / f"{hashlib.sha256(made_from.encode()).hexdigest()[:32]}.npz"
    os.utime(path, (when, when))


def test_a_full_cache_evicts_the_least_recently_used_file(monkeypatch, folder):
    calls, make = counting()
    for when, made_from in enumerate("abc", 1):
        cached("kind", made_from, make)
        age(made_from, when)
    assert cached("kind", "a", make)["n"].tolist() == [0, 1, 2]  # used again, so it is the newest
    monkeypatch.setattr(cache, "MOST_BYTES", cache.folder_bytes(folder))
    cached("kind", "d", make)
    assert cache.folder_bytes(folder) <= cache.MOST_BYTES
    assert len(calls) == 4
    for made_from in "acd":
        cached("kind", made_from, make)
    assert len(calls) == 4
    cached("kind", "b", make)
    assert len(calls) == 5


def test_the_least_recently_used_files_are_evicted_from_all_subfolders(tmp_path):
    paths = [tmp_path / "a" / "old", tmp_path / "b" / "deeper" / "middle", tmp_path / "a" / "new"]
    for when, path in enumerate(paths, 1):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 10)
        os.utime(path, (when, when))
    evict(tmp_path, 30)
    assert [path.exists() for path in paths] == [True, True, True]
    evict(tmp_path, 29)
    assert [path.exists() for path in paths] == [False, True, True]
    evict(tmp_path, 0)
    assert cache.folder_bytes(tmp_path) == 0
    evict(tmp_path / "nothing", 0)


def write_many(folder):
    os.environ["XDG_CACHE_HOME"] = str(folder)
    for n in range(50):
        found = cached("kind", f"{n % 5}", lambda n=n: {"n": np.full(1000, n % 5)})
        assert (found["n"] == n % 5).all()
        evict(cache_folder("kind"), 10_000)


def test_two_processes_may_write_and_delete_at_once(folder):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=write_many, args=(folder,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert not list(cache_folder("kind").glob("*.tmp"))


def test_words_of_a_long_corpus_come_back_as_they_were(small_corpus, monkeypatch):
    monkeypatch.setattr(cache, "LONG_CHARACTERS", 0)
    expected = intern_texts(small_corpus.texts, Data())
    for _ in range(2):
        interned = intern_corpus(small_corpus, Data())
        assert interned.words == expected.words
        assert_same_arrays(interned[1:], expected[1:])
        for n in range(4):  # as many as are kept in memory, so that the next call reads the file
            intern_corpus(dataclasses.replace(small_corpus, checksum=f"other {n}"), Data())
    assert intern_corpus(small_corpus, Data(tokens="characters")).words != expected.words


def test_copies_in_a_long_corpus_come_back_as_they_were(small_corpus, monkeypatch):
    expected = audit(small_corpus)
    monkeypatch.setattr(cache, "LONG_CHARACTERS", 0)
    for _ in range(2):
        audit.cache_clear()
        assert audit(small_corpus) == expected
    assert list(cache_folder("near").iterdir())


def assert_same_arrays(arrays, expected):
    for one, other in zip(arrays, expected, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
