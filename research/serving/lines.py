"""Predictions over lines of text, in bounded memory."""

import itertools
import json
from collections.abc import Iterable, Iterator

from research.errors import UserError
from research.training.restore import RestoredRun

_CHUNK = 2048  # lines in memory


def predict_lines(run: RestoredRun, source: Iterable[bytes], name: str) -> Iterator[str]:
    """Predicts one text a line.

    Args:
      run: the model.
      source: lines of UTF-8, with or without their line ends; an empty line is an empty text.
      name: of the source, for error messages.

    Yields:
      `{"text", "label", "probabilities": {label: p}}` and a line end, one for each line, in order.

    Raises:
      UserError: a line is not UTF-8.
    """
    numbered = enumerate(source, start=1)
    while chunk := list(itertools.islice(numbered, _CHUNK)):
        texts = [_decode(line, name, number) for number, line in chunk]
        for text, row in zip(texts, run.predict_proba(texts), strict=True):
            values = dict(zip(run.class_names, map(float, row), strict=True))
            result = {"text": text, "label": run.class_names[int(row.argmax())], "probabilities": values}
            yield json.dumps(result, ensure_ascii=False) + "\n"


def _decode(line: bytes, name: str, number: int) -> str:
    line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line  # a byte-order mark
    try:
        return line.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        byte = line[error.start]
        raise UserError(f"{name}:{number}: byte {byte:#04x} is not UTF-8, expected one UTF-8 text a line") from None
