"""The tokens of a whole corpus: computed once for all runs that clean and split texts alike, and cached on disk."""

import functools
import importlib.metadata

import numpy as np

from research.data.cache import cached_of_texts
from research.data.corpora import Corpus
from research.data.tokenizer import (
    Encoded,
    Interned,
    encode_texts,
    intern_texts,
    pipeline_text,
    pretrained_tokenizer,
    read_tokenizer,
)
from research.settings import Data


def tokenize_corpus(corpus: Corpus, data: Data) -> Interned | Encoded:
    """Return the words of a corpus or, with the weights of an encoder, the pieces of its tokenizer."""
    if data.weights == "none":
        return intern_corpus(corpus, data)
    return encode_corpus(corpus, pretrained_tokenizer(data).to_str(pretty=True))


def cut_sentence(corpus: Corpus, data: Data) -> str:
    """Say which share of the texts is cut at `data.max_length`; empty if that is hardly any."""
    tokens, most = tokenize_corpus(corpus, data), data.max_length
    # Pieces were cut already, together with the special tokens around them.
    share = np.mean(np.diff(tokens.offsets) > (most - isinstance(tokens, Encoded)))
    if share < 0.005:
        return ""
    return (
        f"{100 * share:.0f} % of the texts have more than data.max_length={most} tokens, "
        f"of which the {data.keep} {most} are read"
    )


def intern_corpus(corpus: Corpus, data: Data) -> Interned:
    """Return `intern_texts` of a corpus."""
    return _intern(corpus, data.tokens, data.lowercase, data.stop_words)


@functools.lru_cache(maxsize=4)
def _intern(corpus: Corpus, tokens: str, lowercase: bool, stop_words: str) -> Interned:
    data = Data(tokens=tokens, lowercase=lowercase, stop_words=stop_words)

    def make() -> dict[str, np.ndarray]:
        words, *arrays = intern_texts(corpus.texts, data)
        lines = "".join(f"{word}\n" for word in words).encode()  # no word contains white space
        return {"lines": np.frombuffer(lines, np.uint8), "tokens": arrays[0], "offsets": arrays[1]}

    arrays = cached_of_texts(corpus.texts, "words", f"{pipeline_text(data)} {corpus.checksum}", make)
    words = tuple(arrays["lines"].tobytes().decode().split("\n")[:-1])
    return Interned(words, arrays["tokens"], arrays["offsets"])


@functools.lru_cache(maxsize=4)
def encode_corpus(corpus: Corpus, tokenizer: str) -> Encoded:
    """Return all texts of a corpus as pieces of a tokenizer, given as its `tokenizer.json`."""

    def make() -> dict[str, np.ndarray]:
        return vars(encode_texts(read_tokenizer(tokenizer), corpus.texts, Data(tokens="pieces")))

    made_from = f"format 2 {corpus.checksum} {tokenizer} {importlib.metadata.version('tokenizers')}"
    return Encoded(**cached_of_texts(corpus.texts, "pieces", made_from, make))
