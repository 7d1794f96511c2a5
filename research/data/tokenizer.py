"""From text to token ids: cleaning, splitting, a vocabulary; one pipeline of the `tokenizers` library throughout.

A corpus is cleaned and split once and its words interned (`Interned`); the vocabulary of a training split is then a
count and its ids a table look-up. `build_tokenizer` puts the same pipeline and that vocabulary into a `tokenizer.json`
that gives the same ids to any text later, in Python or in any other language that the library has a client for.
Two steps stay outside that file, because its format cannot hold them: HTML entities are decoded before it, and with
`tokens="chinese_words"` a dictionary puts blanks between Chinese words.

A pretrained encoder brings its own tokenizer and vocabulary (`tokens="pieces"`), and nothing is done but what they do.
"""

import collections
import dataclasses
import html
import importlib.metadata
import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from research.data.pretrained_encoders import TOKENIZER, VOCABULARY, folder_of, read_tokenizer_settings
from research.data.word_pieces import PADDING, TAGS, UNKNOWN, word_pieces
from research.errors import UserError, not_installed
from research.settings import Data

if TYPE_CHECKING:  # imported where used, so that training imports without it
    from tokenizers import Tokenizer

PADDING_ID, UNKNOWN_ID = 0, 1
_FORMAT = 1  # of the cached words of a corpus; raise it when texts are split otherwise
_TEXTS = 10_000  # whose words are counted at a time
_CUT = {"first": "right", "last": "left"}  # the end that is cut, by the one that is kept

# Scripts written without spaces: each character is a token. Other words are runs of letters, marks and digits with
# apostrophes inside ("don't"), and everything else that is not white space stands alone.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_LETTER = rf"[[\p{{L}}\p{{M}}\p{{N}}_]&&[^{_UNSPACED}]]"
_TOKENS = {
    "words": rf"[{_UNSPACED}]|{_LETTER}+(?:'{_LETTER}+)*|\S",
    "characters": r"\S",
    "chinese_words": rf"\p{{Han}}+|[{_UNSPACED}]|{_LETTER}+(?:'{_LETTER}+)*|\S",
}
# What `_TOKENS` and the cleaning come to for printable ASCII without markup.
_ASCII_TOKENS = {name: re.compile(r"\S" if name == "characters" else r"\w+(?:'\w+)*|\S", re.ASCII) for name in _TOKENS}
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]+")


class Interned(NamedTuple):
    """A corpus as indices into its own list of words, texts end to end."""

    words: tuple[str, ...]
    tokens: np.ndarray  # int32 [total], indices into words
    offsets: np.ndarray  # int64 [N + 1]; text n is tokens[offsets[n]:offsets[n + 1]]


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Texts as token ids, end to end; what batches are gathered from."""

    tokens: np.ndarray  # int32 [total]
    offsets: np.ndarray  # int64 [N + 1]
    labels: np.ndarray  # int32 [N]

    @property
    def lengths(self) -> np.ndarray:
        """int32 [N]."""
        return np.diff(self.offsets).astype(np.int32)

    def take(self, which: np.ndarray, labels: np.ndarray) -> "Encoded":
        """The texts `which` (int [n]), with their labels int32 [n]."""
        return _join([self.tokens[self.offsets[n] : self.offsets[n + 1]] for n in which], labels)


def prepare_texts(texts: Iterable[str], tokens: str) -> list[str]:
    """What comes before `tokenizer.json`: HTML entities decoded, Chinese words set apart where `tokens` asks for them.

    Nothing with `tokens="pieces"`, which are what their tokenizer makes of a text. Lone surrogates (invalid Unicode)
    become question marks.

    Raises:
      UserError: the package that knows Chinese words is not there.
    """
    decode = str if tokens == "pieces" else html.unescape
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
    tokenizer.normalizer = normalizers.Sequence(cleaning + [normalizers.Lowercase()] * data.lowercase)
    splitting = [pre_tokenizers.Split(Regex(_TOKENS[data.tokens]), "removed", invert=True)]
    if data.stop_words != "none":
        listed = (Path(__file__).parent / "stop_words" / f"{data.stop_words}.txt").read_text("utf-8").split()
        # A second split sees the pieces of the first, so an anchored pattern removes whole words.
        splitting.append(pre_tokenizers.Split(Regex(rf"(?i)\A(?:{'|'.join(listed)})\z"), "removed"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splitting)
    return tokenizer


def pipeline_text(data: Data) -> str:
    """What cleans and splits, in words: equal where `intern_texts` gives equal words for equal texts."""
    packages = ("tokenizers", "rjieba") if data.tokens == "chinese_words" else ("tokenizers",)
    versions = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    return " ".join((f"format {_FORMAT}", _pipeline(data, {}).to_str(), data.tokens, *versions))


def intern_texts(texts: Sequence[str], data: Data) -> Interned:
    """Cleans and splits texts, once a corpus.

    Args:
      texts: N texts.
      data: the settings of cleaning and splitting.

    Returns:
      the words in order of first occurrence and the texts as indices into them.
    """
    from tokenizers import trainers

    decoded = prepare_texts(texts, data.tokens)
    tokenizer = _pipeline(data, {})
    every_word = trainers.WordLevelTrainer(vocab_size=2**31 - 1, min_frequency=0, show_progress=False)
    tokenizer.train_from_iterator(decoded, every_word)
    encoded = _join(_pieces(tokenizer, decoded), np.zeros(len(decoded), np.int32))
    # The library breaks ties of frequency at random, so words are numbered anew, by first occurrence.
    used, first, inverse = np.unique(encoded.tokens, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(used), np.int32)
    rank[order] = np.arange(len(used), dtype=np.int32)
    words = tuple(tokenizer.id_to_token(int(used[i])) for i in order)
    return Interned(words, rank[inverse], encoded.offsets)


def fit_vocabulary(interned: Interned, train: np.ndarray, size: int) -> dict[str, int]:
    """The most frequent words of the training texts, ties in the order of the words.

    Args:
      interned: the corpus.
      train: int [n], indices of its training texts.
      size: most entries, padding and unknown included.

    Returns:
      word -> id; padding is 0, unknown 1, the most frequent word 2.
    """
    count = np.zeros(len(interned.words), np.int64)
    for n in train:
        np.add.at(count, interned.tokens[interned.offsets[n] : interned.offsets[n + 1]], 1)
    return _most_frequent(zip(interned.words, count.tolist(), strict=True), size)


def learn_vocabulary(texts: Iterable[str], data: Data) -> dict[str, int]:
    """`fit_vocabulary` of texts that need not fit into memory together."""
    counts: collections.Counter[str] = collections.Counter()
    texts = iter(texts)
    while some := list(itertools.islice(texts, _TEXTS)):
        interned = intern_texts(some, data)
        times = np.bincount(interned.tokens, minlength=len(interned.words)).tolist()
        counts.update(dict(zip(interned.words, times, strict=True)))
    return _most_frequent(counts.items(), data.vocab_size)


def _most_frequent(counts: Iterable[tuple[str, int]], size: int) -> dict[str, int]:
    frequent = sorted((-count, word) for word, count in counts if count)
    vocabulary = {PADDING: PADDING_ID, UNKNOWN: UNKNOWN_ID}
    for _, word in frequent[: size - len(vocabulary)]:
        vocabulary[word] = len(vocabulary)
    return vocabulary


def encode(
    interned: Interned, vocabulary: dict[str, int], labels: np.ndarray, which: np.ndarray, data: Data
) -> Encoded:
    """The texts `which` (int [n]) of an interned corpus as ids, cut to `data.max_length` tokens."""
    table = np.array([vocabulary.get(word, UNKNOWN_ID) for word in interned.words] or [UNKNOWN_ID], np.int32)
    starts, ends = interned.offsets[which], interned.offsets[which + 1]
    if data.keep == "first":
        ends = np.minimum(ends, starts + data.max_length)
    else:
        starts = np.maximum(starts, ends - data.max_length)
    pieces = [table[interned.tokens[a:b]] for a, b in zip(starts, ends, strict=True)]
    return _join(pieces, labels[which])


def build_tokenizer(vocabulary: dict[str, int], data: Data) -> "Tokenizer":
    """The pipeline with a fitted vocabulary and the truncation, to be saved as `tokenizer.json`."""
    return cutting(_pipeline(data, vocabulary), data)


def cutting(tokenizer: "Tokenizer", data: Data) -> "Tokenizer":
    """The same one, which cuts texts as the settings say from now on."""
    tokenizer.enable_truncation(data.max_length, direction=_CUT[data.keep])
    return tokenizer


def pretrained_tokenizer(data: Data) -> "Tokenizer":
    """The tokenizer of `data.weights`, with the truncation, to be saved as `tokenizer.json`.

    It puts [CLS] before a text and [SEP] behind it; `data.max_length` counts them.

    Raises:
      UserError: there is none that can be read, or it does not fit the settings.
    """
    from tokenizers import Tokenizer, models

    folder = folder_of(data.weights)
    path = next((folder / name for name in (TOKENIZER, VOCABULARY) if (folder / name).exists()), None)
    if path is None:
        raise UserError(f"{folder}: has neither {TOKENIZER} nor {VOCABULARY}, expected one of them")
    settings = read_tokenizer_settings(data.weights)
    try:
        tokenizer = (
            Tokenizer.from_file(str(path))
            if path.name == TOKENIZER
            else word_pieces(models.WordPiece.read_file(str(path)), settings)
        )
    except Exception as error:  # the library raises nothing narrower
        raise UserError(f"{path}: cannot be read ({error})") from error
    last = max(tokenizer.get_vocab().values(), default=0)
    if last >= data.vocab_size:
        raise UserError(f"{path}: has ids up to {last}, expected fewer than config.data.vocab_size={data.vocab_size}")
    if data.max_length <= tokenizer.num_special_tokens_to_add(is_pair=False):
        raise UserError(f"config.data.max_length is {data.max_length}, expected room for more than [CLS] and [SEP]")
    tokenizer.no_padding()
    return cutting(tokenizer, data)


def read_tokenizer(text: str) -> "Tokenizer":
    """Of the text of a `tokenizer.json` that was written here."""
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
    """New texts through a restored tokenizer; labels are zeros.

    With the tokenizer's `vocabulary`, texts that cleaning would leave as they are (printable ASCII without markup) are
    split by a regular expression and looked up, which gives the same ids in a fraction of the time. Without `around`
    the tokenizer puts no [CLS] before a text and no [SEP] behind it.
    """
    can = vocabulary is not None and data.tokens in _ASCII_TOKENS and data.stop_words == "none"
    plain = np.array([can and _is_plain(text) for text in texts], bool)
    words = [_split_plain(text, data) for text, is_plain in zip(texts, plain, strict=True) if is_plain]
    others = [text for text, is_plain in zip(texts, plain, strict=True) if not is_plain]
    pieces = _pieces(tokenizer, prepare_texts(others, data.tokens), around)
    lengths = np.zeros(len(texts), np.int64)
    lengths[plain], lengths[~plain] = list(map(len, words)), list(map(len, pieces))
    of_plain, tokens = np.repeat(plain, lengths), np.empty(lengths.sum(), np.int32)
    # All words at once: an array a text takes as long as looking its words up.
    every_word = itertools.chain.from_iterable(words)
    tokens[of_plain] = list(map(vocabulary.get, every_word, itertools.repeat(UNKNOWN_ID))) if words else []
    tokens[~of_plain] = np.concatenate([np.empty(0, np.int32), *pieces])
    return Encoded(tokens, np.concatenate([[0], np.cumsum(lengths)]), np.zeros(len(texts), np.int32))


def whole_encoder(tokenizer: "Tokenizer", data: Data) -> Callable[[Sequence[str]], Encoded]:
    """What encodes texts with nothing cut off and no token around them; labels are zeros."""
    bare, data = read_tokenizer(tokenizer.to_str()), dataclasses.replace(data, max_length=2**31 - 1)
    bare.no_truncation()
    bare.encode_special_tokens = True  # a text that says [MASK] is no mask
    vocabulary = bare.get_vocab()
    return lambda texts: encode_texts(bare, texts, data, vocabulary, around=False)


def split_text(tokenizer: "Tokenizer", text: str, data: Data) -> list[tuple[str, int]]:
    """The tokens that `encode_texts` makes of a text, as they are written in it, with their ids."""
    (prepared,) = prepare_texts([text], data.tokens)
    found = tokenizer.encode(prepared)
    places = zip(found.offsets, found.tokens, found.ids, strict=True)
    return [(prepared[start:end] or token, token_id) for (start, end), token, token_id in places]


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
