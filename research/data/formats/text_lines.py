"""Open the files of users as lines of text, whatever their compression and encoding."""

import bz2
import codecs
import gzip
import io
import itertools
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from research.errors import UserError, not_installed

MAX_LINE_BYTES = 1 << 26
SAMPLE_BYTES = 1 << 20
_LINES_PER_REPORT = 256
OnProgress = Callable[[int], None]
_NOT_TEXT = {  # how files begin that hold no plain text, and what to do with them
    b"\xd0\xcf\x11\xe0": "an old Office document. Save it as CSV, encoding UTF-8",
    b"%PDF": "a PDF. Save its texts as CSV, encoding UTF-8",
    b"version https://git-lfs": "a pointer of Git LFS to the file. Fetch the file itself: git lfs pull",
    b"SQLite format 3": "an SQLite database. Export its table as CSV",
    b"\x80\x04": "a pickle, which may run code when it is read. Save it as CSV: pandas.read_pickle(...).to_csv(...)",
    b"\x80\x05": "a pickle, which may run code when it is read. Save it as CSV: pandas.read_pickle(...).to_csv(...)",
}
_MARKS = (  # byte-order mark -> encoding; that of UTF-32 begins like that of UTF-16
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What a file that is not UTF-8 most likely is.
_LIKELY = ("gb18030", "big5", "shift_jis", "euc_kr", "cp1251", "cp1252")


def open_bytes(path: Path) -> BinaryIO:
    """Open a file for reading, decompressed.

    Raises:
      UserError: the file cannot be opened, a zip has several files, or it is a document of another program.
    """
    return decompress(_open(path), path)


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def decompress(raw: BinaryIO, path: Path) -> BinaryIO:
    """Return the content of an open file: its first bytes say whether it is gzip, bzip2, xz, Zstandard or zip.

    Raises:
      UserError: a zip has several files, or it is a document of another program.
    """
    start = raw.read(32)
    raw.seek(0)
    for beginning, what in _NOT_TEXT.items():
        if start.startswith(beginning):
            raise UserError(f"{path}: {what}")
    if start.startswith(b"\x1f\x8b"):
        return gzip.open(raw)
    if start.startswith(b"BZh"):
        return bz2.open(raw)
    if start.startswith(b"\xfd7zXZ\x00"):
        return lzma.open(raw)
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        try:
            import pyarrow
        except ImportError:
            raise not_installed("a file compressed by Zstandard", "pyarrow", "files") from None
        return pyarrow.CompressedInputStream(raw, "zstd")
    if start.startswith(b"PK\x03\x04"):
        try:
            return _only_member(zipfile.ZipFile(raw), path).open("rb")
        except zipfile.BadZipFile as error:
            raise UserError(f"{path}: a damaged zip ({error}). Is it complete?") from None
    return raw


def _only_member(archive: zipfile.ZipFile, path: Path) -> zipfile.Path:
    """Return the only file of a zip; raise UserError for several files and for Office documents."""
    names = [info.filename for info in archive.infolist() if not info.is_dir()]
    if "[Content_Types].xml" in names or "mimetype" in names:
        raise UserError(f"{path}: an Office document. Save it as CSV, encoding UTF-8")
    names = [name for name in names if not is_hidden(name)]
    if len(names) != 1:
        listed = ", ".join(names[:5]) or "none"
        raise UserError(f"{path}: a zip of {len(names)} files ({listed}), expected one. Unpack it and name a file")
    return zipfile.Path(archive, names[0])


def is_hidden(name: str) -> bool:
    """Return whether a file belongs to an operating system, such as `.DS_Store` or `__MACOSX/...`."""
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def sample_of(path: Path) -> bytes:
    """Return the first `SAMPLE_BYTES` of a file, after decompression.

    Raises:
      UserError: the file cannot be read.
    """
    with open_bytes(path) as file:
        return b"".join(_chunks(file, path, SAMPLE_BYTES))[:SAMPLE_BYTES]


def describe_encoding(path: Path, encoding: str = "") -> str:
    """Return the encoding in which a file is read, as a user may name it."""
    sample = sample_of(path)
    mark = next((marked for mark, marked in _MARKS if sample.startswith(mark)), "")
    return encoding or (f"{mark.removesuffix('-sig').upper()} by its byte-order mark" if mark else "UTF-8")


def read_lines(
    path: Path, encoding: str = "", end: str = "\n", on_progress: OnProgress = lambda count: None
) -> Iterator[str]:
    """Yield the lines of a file, each with its line break, without a byte-order mark.

    Only `end` ends a line: a lone carriage return, a form feed, and U+2028 are characters of a text.

    Args:
      path: the file.
      encoding: its encoding; empty for UTF-8, or what a byte-order mark says.
      end: a line feed, or a carriage return for files of old Macintoshes.
      on_progress: called now and then with the number of bytes that have been read, as they are on disk.

    Raises:
      UserError: the file cannot be read or is damaged, the encoding is unknown, or a line is too long or has bytes that
        are not of the encoding.
    """
    with _open(path) as raw, decompress(raw, path) as file:
        for number, line in enumerate(decode_lines(file, path, encoding, end)):
            if number % _LINES_PER_REPORT == 0 and not raw.closed:  # pyarrow closes it at the end
                on_progress(raw.tell())
            yield line


def decode_lines(file: BinaryIO, name: Path | str, encoding: str = "", end: str = "\n") -> Iterator[str]:
    """Yield the lines of an open file, as `read_lines` does."""
    for number, line in enumerate(_byte_lines(file, name, encoding, end), start=1):
        if isinstance(line, str):
            yield line
            continue
        if number == 1 and not encoding:
            line = line.removeprefix(codecs.BOM_UTF8)
        try:
            yield line.decode(encoding or "utf-8")
        except UnicodeDecodeError as error:
            raise _not_of_encoding(error, name, number, encoding) from None


def _byte_lines(file: BinaryIO, name: Path | str, encoding: str, end: str) -> Iterator[bytes | str]:
    """Yield lines that are still encoded; those of UTF-16 and UTF-32 are decoded: their line feeds have zeros."""
    try:
        wide = codecs.lookup(encoding or "utf-8").name.startswith(("utf-16", "utf-32"))
    except LookupError:
        raise UserError(f"--encoding={encoding} is unknown, expected one such as utf-8, gb18030 or cp1252") from None
    buffered = io.BufferedReader(file) if not hasattr(file, "peek") else file
    mark = next((marked for mark, marked in _MARKS if buffered.peek(4)[:4].startswith(mark)), "")
    if wide or (not encoding and mark.startswith(("utf-16", "utf-32"))):
        yield from _wide_lines(buffered, name, encoding or mark, end)
        return
    ending = end.encode()
    line = b""
    for chunk in _chunks(buffered, name):
        *lines, line = (line + chunk).split(ending)
        for complete in lines:
            yield complete + ending
        if len(line) > MAX_LINE_BYTES:
            raise UserError(f"{name}: a line of more than {MAX_LINE_BYTES:,} bytes, expected shorter ones")
    if line:
        yield line


def _wide_lines(file: BinaryIO, name: Path | str, encoding: str, end: str) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(encoding)()
    line, number = "", 1
    try:
        for chunk in itertools.chain(_chunks(file, name), [b""]):
            *lines, line = (line + decoder.decode(chunk, final=not chunk)).split(end)
            for complete in lines:
                yield complete + end
                number += 1
    except UnicodeDecodeError as error:
        raise UserError(
            f"{name}:{number}: not {encoding} ({error.reason}). Name the encoding with --encoding"
        ) from None
    if line:
        yield line


def _chunks(file: BinaryIO, name: Path | str, most: int | None = None) -> Iterator[bytes]:
    """Yield the bytes of a file as they come, so that a line typed into a pipe is there at once."""
    read = getattr(file, "read1", file.read)
    count = 0
    try:
        while (most is None or count < most) and (chunk := read(1 << 16)):
            count += len(chunk)
            yield chunk
    except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, OSError) as error:
        raise UserError(f"{name}: cannot be read ({error}). Is it complete?") from error


def _not_of_encoding(error: UnicodeDecodeError, name: Path | str, number: int, encoding: str) -> UserError:
    """Return the error about a line with bytes that are not of the encoding; it names the likely one."""
    byte = f"{name}:{number}: byte {error.object[error.start]:#04x} is not {encoding or 'UTF-8'}"
    if encoding:
        return UserError(f"{byte}. Name another --encoding, or mend the line")
    sample = b"" if isinstance(name, str) else sample_of(name)
    return UserError(f"{byte}. {_advice(sample + error.object)}")


def _advice(sample: bytes) -> str:
    """Return what to do with a file that is not UTF-8."""
    lines = [line for line in sample.split(b"\n") if not line.isascii()]
    good = sum(_is_encoded(line, "utf-8") for line in lines)
    if good > len(lines) / 2:
        return f"Other lines are UTF-8, so mend this one ({len(lines) - good} such line(s) at the start of the file)"
    likely = _likely_encoding(b"\n".join(lines))
    if not likely:
        return "Save the file as UTF-8, or name its encoding with --encoding"
    return f"The file is probably {likely}: use --encoding={likely}"


def _is_encoded(line: bytes, encoding: str) -> bool:
    try:
        line.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _likely_encoding(sample: bytes) -> str:
    """Return the most likely encoding; empty if none fits.

    Western texts are one letter here and there among ASCII, of which a detector makes anything; others are mostly bytes
    that are not ASCII.
    """
    letters = sum(byte > 127 for byte in sample)
    is_western = letters < 0.3 * sum(not bytes([byte]).isspace() for byte in sample[:100_000])
    fitting = [encoding for encoding in _LIKELY if _is_encoded(sample, encoding)]
    if is_western or fitting == ["cp1252"]:
        return "cp1252" if _is_encoded(sample, "cp1252") else "latin-1"
    try:
        from charset_normalizer import from_bytes
    except ImportError:
        return fitting[0] if fitting else ""
    best = from_bytes(sample[:100_000], cp_isolation=list(_LIKELY)).best()
    return best.encoding if best else ""
