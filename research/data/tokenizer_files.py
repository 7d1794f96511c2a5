"""Read tokenizers that were not fitted here: the one in the folder of a pretrained encoder, and a user's own file."""

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from research.data.cache import file_checksum
from research.data.pretrained_encoders import (
    MERGES,
    TOKENIZER,
    VOCABULARY,
    VOCABULARY_OF_BYTES,
    find_folder,
    read_tokenizer_settings,
)
from research.data.tokenizer import set_truncation
from research.data.word_pieces import byte_pieces, word_pieces
from research.errors import UserError
from research.settings import Config, Data, is_tokenizer_file

if TYPE_CHECKING:  # imported inside functions, so that training does not need it
    from tokenizers import Tokenizer

_RARE = "\ua66e \U0001242b"  # a Cyrillic and a cuneiform letter: hardly any vocabulary has them
_FEWEST = 3  # tokens of a vocabulary


def read_given_tokenizer(data: Data) -> "Tokenizer":
    """Return the tokenizer of the encoder `data.weights` or of the file `data.tokens`, with truncation.

    It is used as it is. If it adds tokens such as [CLS] to each text, they count towards `data.max_length`.

    Raises:
      UserError: the tokenizer cannot be read, cannot tokenize every text, or does not fit the settings.
    """
    if data.weights == "none":
        path = Path(data.tokens)
        tokenizer = _read_file(path)
    else:
        path, tokenizer = _read_folder(find_folder(data.weights), read_tokenizer_settings(data.weights))
    last = max(tokenizer.get_vocab().values(), default=0)
    if last >= data.vocab_size:
        raise UserError(f"{path}: has ids up to {last}, expected fewer than config.data.vocab_size={data.vocab_size}")
    added = tokenizer.num_special_tokens_to_add(is_pair=False)
    if data.max_length <= added:
        raise UserError(
            f"config.data.max_length is {data.max_length}, expected room for more than the {added} tokens that the "
            "tokenizer puts around each text, such as [CLS] and [SEP]"
        )
    tokenizer.no_padding()
    return set_truncation(tokenizer, data)


def fit_to_tokenizer(config: Config) -> Config:
    """Return the config with the vocabulary size of its tokenizer file, and with the file's absolute path.

    A config without such a file is returned as it is.

    Raises:
      UserError: the file cannot be read.
    """
    if not is_tokenizer_file(config.data.tokens):
        return config
    path = Path(config.data.tokens).resolve()
    size = _vocabulary_size(path, file_checksum(path) if path.is_file() else "")
    if size < _FEWEST:
        raise UserError(f"{path}: has {size} tokens, expected at least {_FEWEST}")
    return dataclasses.replace(config, data=dataclasses.replace(config.data, tokens=str(path), vocab_size=size))


@functools.lru_cache(maxsize=8)
def _vocabulary_size(path: Path, checksum: str) -> int:
    """Return 1 + the largest id; the file is read again only if its content changed."""
    return 1 + max(_read_file(path).get_vocab().values(), default=-1)


def unknown_id(tokenizer: "Tokenizer") -> int | None:
    """Return the id of the token for what is not in the vocabulary; None if there is no such token."""
    model = json.loads(tokenizer.to_str())["model"]
    if "unk_id" in model:  # of a Unigram model
        return model["unk_id"]
    return None if model.get("unk_token") is None else tokenizer.token_to_id(model["unk_token"])


def _read_file(path: Path) -> "Tokenizer":
    """Return the tokenizer of a user's file.

    Raises:
      UserError: the file cannot be read, or the tokenizer fails on characters that it does not know.
    """
    from tokenizers import Tokenizer

    if path.is_dir():
        raise UserError(f"config.data.tokens is the folder {path}, expected a file, such as {path / TOKENIZER}")
    tokenizer = _readable(path, lambda: Tokenizer.from_file(str(path)))
    if getattr(tokenizer.model, "dropout", None):
        tokenizer.model.dropout = None  # a text would have other tokens each time
    try:
        tokenizer.encode(_RARE)
    except Exception as error:  # the library raises only this type
        raise UserError(
            f"{path}: cannot tokenize characters that are not in its vocabulary ({error}); give its model an unknown "
            "token that is in the vocabulary"
        ) from error
    return tokenizer


def _read_folder(folder: Path, settings: dict[str, Any]) -> tuple[Path, "Tokenizer"]:
    """Return the file that holds the tokenizer of a pretrained encoder, and the tokenizer."""
    from tokenizers import Tokenizer, models

    if (path := folder / TOKENIZER).exists():
        return path, _readable(path, lambda: Tokenizer.from_file(str(path)))
    if (path := folder / VOCABULARY).exists():
        return path, _readable(path, lambda: word_pieces(models.WordPiece.read_file(str(path)), settings))
    path, merges = folder / VOCABULARY_OF_BYTES, folder / MERGES
    if path.exists() and merges.exists():
        return path, _readable(path, lambda: byte_pieces(*models.BPE.read_file(str(path), str(merges)), settings))
    raise UserError(
        f'{folder}: has neither {TOKENIZER} nor {VOCABULARY}, expected one of them. To write it: python -c "from '
        f"transformers import AutoTokenizer as T; T.from_pretrained('{folder}').save_pretrained('{folder}')\""
    )


def _readable(path: Path, read: Callable[[], "Tokenizer"]) -> "Tokenizer":
    try:
        return read()
    except Exception as error:  # the library raises only this type
        raise UserError(f"{path}: cannot be read ({error})") from error
