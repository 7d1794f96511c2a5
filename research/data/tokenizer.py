"""Turn texts into token ids: clean them, split them into words, and look these up in a vocabulary.

A corpus is cleaned and split once, and its words are numbered (`Interned`). Each training split counts these words for
its vocabulary (`vocabulary.py`), and ids are a table look-up. `build_tokenizer` writes the same pipeline and vocabulary
into a `tokenizer.json` of the `tokenizers` library, which gives the same ids in any language that the library supports.

The format of that file cannot express two steps, so `prepare_texts` does them first: it decodes HTML entities and, with
`tokens="chinese_words"`, separates Chinese words by blanks.

A pretrained encoder has its own tokenizer and vocabulary (`tokens="pieces"`), and so has a file that the user names
(`tokenizer_files.py`). They are used unchanged.
"""

import dataclasses
import html
import importlib.metadata
import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from research.data.word_pieces import TAGS, UNKNOWN
from research.errors import not_installed
from research.settings import Data

if TYPE_CHECKING:  # imported inside functions, so that training does not need it
    from tokenizers import Tokenizer

PADDING_ID, UNKNOWN_ID = 0, 1
_FORMAT = 1  # version of the cached words of a corpus; raise it when texts are split differently
_TRUNCATED_SIDE = {"first": "right", "last": "left"}  # `keep` -> side of the text that is cut off

# Each character is a token in scripts without spaces. Other words are runs of letters, marks and digits, with
# apostrophes inside ("don't"). Every other character except white space is a token.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_LETTER = rf"[[\p{{L}}\p{{M}}\p{{N}}_]&&[^{_UNSPACED}]]"
_TOKENS = {
    "words": rf"[{_UNSPACED}]|{_LETTER}+(?:'{_LETTER}+)*|\S",
    "characters": r"\S",
    "chinese_words": rf"\p{{Han}}+|[{_UNSPACED}]|{_LETTER}+(?:'{_LETTER}+)*|\S",
}
# Equivalent to cleaning and `_TOKENS` for printable ASCII without markup.
_ASCII_TOKENS = {name: re.compile(r"\S" if name == "characters" else r"\w+(?:'\w+)*|\S", re.ASCII) for name in _TOKENS}
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]+")


class Interned(NamedTuple):
    """The texts of a corpus one after another, as indices into a list of its words."""

    words: tuple[str, ...]
    tokens: np.ndarray  # int32 [total], indices into words
    offsets: np.ndarray  # int64 [N + 1]; text n is tokens[offsets[n]:offsets[n + 1]]


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Texts one after another as token ids; batches are gathered from them."""

    tokens: np.ndarray  # int32 [total]
    offsets: np.ndarray  # int64 [N + 1]
    labels: np.ndarray  # int32 [N]
    vectors: np.ndarray | None = None  # float32 [N, D], sentence vectors of a frozen encoder, read instead of tokens

    @property
    def lengths(self) -> np.ndarray:
        """Return the number of tokens in each text, int32 [N]."""
        return np.diff(self.offsets).astype(np.int32)

    def take(self, index: np.ndarray, labels: np.ndarray) -> "Encoded":
        """Return the texts with indices int [n], and with other labels int32 [n]."""
        return _join([self.tokens[self.offsets[n] : self.offsets[n + 1]] for n in index], labels)


def prepare_texts(texts: Iterable[str], tokens: str) -> list[str]:
    """Decode HTML entities and separate Chinese words: the steps that `tokenizer.json` cannot express.

    Args:
      texts: the texts.
      tokens: the setting. With "pieces" or a file, neither step is done; only "chinese_words" separates words.

    Returns:
      the prepared texts; lone surrogates (invalid Unicode) become question marks.

    Raises:
      UserError: the package that splits Chinese words is not installed.
    """
    decode = html.unescape if tokens in _TOKENS else str
    decoded = [decode(text).encode("utf-8", "replace").decode() for text in texts]
    if tokens != "chinese_words":
        return decoded
    try:
        import rjieba
    except ImportError:
        raise not_installed("config.data.tokens=chinese_words", "rjieba", "chinese") from None
    return [_HAN.sub(lambda run: f" {' '.join(rjieba.cut(run[0]))} ", text) for text in decoded]


def _pipeline(data: Data, vocabulary: dict[str, int]) -> "Tokenizer":
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    cleaning = [
        normalizers.Replace(Regex(TAGS), " "),
        normalizers.NFKC(),
        normalizers.Replace(Regex(r"\p{Cc}"), " "),
        normalizers.Replace(Regex(r"\p{Cf}"), ""),
        normalizers.Replace("\u2019", "'"),
    ]
    if data.lowercase:
        cleaning.append(normalizers.Lowercase())
    tokenizer.normalizer = normalizers.Sequence(cleaning)
    splitting = [pre_tokenizers.Split(Regex(_TOKENS[data.tokens]), "removed", invert=True)]
    if data.stop_words != "none":
        words = (Path(__file__).parent / "stop_words" / f"{data.stop_words}.txt").read_text("utf-8").split()
        # The second split gets the words of the first, so the anchored pattern removes whole words.
        splitting.append(pre_tokenizers.Split(Regex(rf"(?i)\A(?:{'|'.join(words)})\z"), "removed"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splitting)
    return tokenizer


def pipeline_text(data: Data) -> str:
    """Return a text that identifies how `intern_texts` cleans and splits, for the keys of a cache."""
    packages = ("tokenizers", "rjieba") if data.tokens == "chinese_words" else ("tokenizers",)
    versions = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    return " ".join((f"format {_FORMAT}", _pipeline(data, {}).to_str(), data.tokens, *versions))


def intern_texts(texts: Sequence[str], data: Data) -> Interned:
    """Clean and split texts, and number their words.

    Args:
      texts: N texts.
      data: settings for cleaning and splitting.

    Returns:
      the words in order of first occurrence, and the texts as indices into them.
    """
    from tokenizers import trainers

    decoded = prepare_texts(texts, data.tokens)
    tokenizer = _pipeline(data, {})
    every_word = trainers.WordLevelTrainer(vocab_size=2**31 - 1, min_frequency=0, show_progress=False)
    tokenizer.train_from_iterator(decoded, every_word)
    encoded = _join(_pieces(tokenizer, decoded), np.zeros(len(decoded), np.int32))
    # The library breaks ties of frequency at random, so the words are numbered again by first occurrence.
    used, first, inverse = np.unique(encoded.tokens, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(used), np.int32)
    rank[order] = np.arange(len(used), dtype=np.int32)
    words = tuple(tokenizer.id_to_token(int(used[i])) for i in order)
    return Interned(words, rank[inverse], encoded.offsets)


def encode(
    interned: Interned, vocabulary: dict[str, int], labels: np.ndarray, index: np.ndarray, data: Data
) -> Encoded:
    """Return texts of an interned corpus as ids, cut to `data.max_length` tokens.

    Args:
      interned: N texts.
      vocabulary: word -> id.
      labels: int32 [N].
      index: int [n], the texts to take.
      data: settings; `max_length` and `keep` are read.
    """
    table = np.array([vocabulary.get(word, UNKNOWN_ID) for word in interned.words] or [UNKNOWN_ID], np.int32)
    starts, ends = interned.offsets[index], interned.offsets[index + 1]
    if data.keep == "first":
        ends = np.minimum(ends, starts + data.max_length)
    else:
        starts = np.maximum(starts, ends - data.max_length)
    pieces = [table[interned.tokens[a:b]] for a, b in zip(starts, ends, strict=True)]
    return _join(pieces, labels[index])


def build_tokenizer(vocabulary: dict[str, int], data: Data) -> "Tokenizer":
    """Return the tokenizer with a fitted vocabulary and truncation, to be saved as `tokenizer.json`."""
    return set_truncation(_pipeline(data, vocabulary), data)


def set_truncation(tokenizer: "Tokenizer", data: Data) -> "Tokenizer":
    """Make a tokenizer cut texts to `data.max_length` tokens, and return it."""
    tokenizer.enable_truncation(data.max_length, direction=_TRUNCATED_SIDE[data.keep])
    return tokenizer


def read_tokenizer(text: str) -> "Tokenizer":
    """Return a tokenizer from the text of a `tokenizer.json`."""
    from tokenizers import Tokenizer

    return Tokenizer.from_str(text)


def encode_texts(
    tokenizer: "Tokenizer",
    texts: Sequence[str],
    data: Data,
    vocabulary: dict[str, int] | None = None,
    *,
    around: bool = True,
) -> Encoded:
    """Encode new texts with a restored tokenizer; labels are zeros.

    Args:
      tokenizer: the tokenizer.
      texts: N texts.
      data: the settings that the tokenizer was built with.
      vocabulary: the tokenizer's vocabulary, to save time. Plain texts (printable ASCII without markup) are then split
        by a regular expression and looked up, which gives the same ids.
      around: whether the tokenizer adds its tokens, such as [CLS] and [SEP], around each text.
    """
    has_fast_path = vocabulary is not None and data.tokens in _ASCII_TOKENS and data.stop_words == "none"
    plain = np.array([has_fast_path and _is_plain(text) for text in texts], bool)
    words = [_split_plain(text, data) for text, is_plain in zip(texts, plain, strict=True) if is_plain]
    others = [text for text, is_plain in zip(texts, plain, strict=True) if not is_plain]
    pieces = _pieces(tokenizer, prepare_texts(others, data.tokens), around)
    lengths = np.zeros(len(texts), np.int64)
    lengths[plain], lengths[~plain] = list(map(len, words)), list(map(len, pieces))
    is_plain_token, tokens = np.repeat(plain, lengths), np.empty(lengths.sum(), np.int32)
    # All words are looked up together, because one array per text would double the time.
    every_word = itertools.chain.from_iterable(words)
    tokens[is_plain_token] = list(map(vocabulary.get, every_word, itertools.repeat(UNKNOWN_ID))) if words else []
    tokens[~is_plain_token] = np.concatenate([np.empty(0, np.int32), *pieces])
    return Encoded(tokens, np.concatenate([[0], np.cumsum(lengths)]), np.zeros(len(texts), np.int32))


def make_raw_encoder(tokenizer: "Tokenizer", data: Data) -> Callable[[Sequence[str]], Encoded]:
    """Return a function that encodes texts without truncation and without special tokens; labels are zeros."""
    bare, data = read_tokenizer(tokenizer.to_str()), dataclasses.replace(data, max_length=2**31 - 1)
    bare.no_truncation()
    bare.encode_special_tokens = True  # "[MASK]" in a text is ordinary text
    vocabulary = bare.get_vocab()
    return lambda texts: encode_texts(bare, texts, data, vocabulary, around=False)


def split_text(tokenizer: "Tokenizer", text: str, data: Data) -> list[tuple[str, int]]:
    """Return the tokens that `encode_texts` finds in a text, as written there, with their ids."""
    (prepared,) = prepare_texts([text], data.tokens)
    encoding = tokenizer.encode(prepared)
    places = zip(encoding.offsets, encoding.tokens, encoding.ids, strict=True)
    return [(prepared[start:end].strip() or token, token_id) for (start, end), token, token_id in places]


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and "<" not in text and "&" not in text


def _split_plain(text: str, data: Data) -> list[str]:
    words = _ASCII_TOKENS[data.tokens].findall(text.lower() if data.lowercase else text)
    return words[: data.max_length] if data.keep == "first" else words[-data.max_length :]


def _pieces(tokenizer: "Tokenizer", decoded: Sequence[str], around: bool = True) -> list[np.ndarray]:
    return [np.array(e.ids, np.int32) for e in tokenizer.encode_batch_fast(decoded, add_special_tokens=around)]


def _join(pieces: Iterable[np.ndarray], labels: np.ndarray) -> Encoded:
    pieces = list(pieces)
    offsets = np.zeros(len(pieces) + 1, np.int64)
    np.cumsum([len(piece) for piece in pieces], out=offsets[1:])
    return Encoded(np.concatenate([np.empty(0, np.int32), *pieces]), offsets, labels)
