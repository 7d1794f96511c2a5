"""The per-user cache: made once, mended where damaged, done without where there is no room."""

import hashlib
import multiprocessing
import os

import numpy as np
import pytest

from research.data import audit, cache
from research.data.cache import cache_folder, cached, evict
from research.data.tokenizer import intern_texts
from research.runs import texts as preparation
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


def test_made_once_for_what_it_is_made_from():
    calls, make = counting()
    for made_from in ("a", "a", "b"):
        found = cached("kind", made_from, make)
        assert found["n"].tolist() == [0, 1, 2]
        assert found["n"].dtype == np.int32
    assert len(calls) == 2


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"\x93NUMPY junk"])
def test_a_damaged_file_is_made_anew(content):
    calls, make = counting()
    cached("kind", "a", make)
    (path,) = cache_folder("kind").iterdir()
    path.write_bytes(content)
    assert cached("kind", "a", make)["n"].tolist() == [0, 1, 2]
    assert cached("kind", "a", make)["n"].tolist() == [0, 1, 2]
    assert len(calls) == 2


def test_where_nothing_can_be_kept_it_is_made_all_the_same(folder):
    folder.write_text("a file where the folder would be")
    calls, make = counting()
    assert [cached("kind", "a", make)["n"].tolist() for _ in range(2)] == [[0, 1, 2]] * 2
    assert len(calls) == 2


def age(made_from, when):
    path = cache_folder("kind") / f"{hashlib.sha256(made_from.encode()).hexdigest()[:32]}.npz"
    os.utime(path, (when, when))


def test_the_files_that_were_not_used_for_longest_are_deleted(monkeypatch, folder):
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


def write_many(name, folder):
    os.environ["XDG_CACHE_HOME"] = str(folder)
    for n in range(50):
        found = cached("kind", f"{n % 5}", lambda n=n: {"n": np.full(1000, n % 5)})
        assert (found["n"] == n % 5).all()
        evict(cache_folder("kind"), 10_000)


def test_two_processes_may_write_and_delete_at_once(folder):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=write_many, args=(name, folder)) for name in "ab"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert not list(cache_folder("kind").glob("*.tmp"))


def test_words_and_near_copies_of_a_long_corpus_come_back_as_they_were(small_corpus, monkeypatch):
    monkeypatch.setattr(cache, "_LONG", 0)
    expected, words = audit.audit(small_corpus), intern_texts(small_corpus.texts, Data())
    for _ in range(2):
        preparation._intern.cache_clear()
        found = preparation.intern_corpus(small_corpus, Data())
        assert found.words == words.words
        assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(found[1:], words[1:], strict=True))
        assert audit.audit(small_corpus) == expected
    assert preparation.intern_corpus(small_corpus, Data(tokens="characters")).words != words.words
    preparation._intern.cache_clear()
