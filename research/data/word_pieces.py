"""Build the tokenizers of BERT and RoBERTa with an existing vocabulary, or BERT's with one learnt from texts.

BERT has word pieces (Devlin et al. 2019), and RoBERTa pairs of bytes that are merged (Liu et al. 2019).
"""

import collections
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from research.settings import Data

if TYPE_CHECKING:  # imported where used, so that training imports without it
    from tokenizers import Tokenizer

PADDING, UNKNOWN, START, END, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
# Elements of HTML that texts are written with. Elements named like types or placeholders (object, time) are left out.
_ELEMENTS = (
    "a abbr acronym address article aside b big blockquote body br button canvas caption center cite code col colgroup "
    "dd del details dfn div dl dt em embed fieldset figcaption figure font footer form frame frameset h1 h2 h3 h4 h5 "
    "h6 head header hr html i iframe img input ins kbd label legend li link main mark marquee meta nav nobr noscript "
    "ol option p picture pre q s samp script section select small span strike strong style sub sup svg table tbody td "
    "textarea tfoot th thead tr tt u ul video wbr"
)
_ATTRIBUTE = (
    r"""[A-Za-z_:][\w:.-]*\s*=\s*(?:"[^"<>]*"|'[^'<>]*'|[^\s"'<>]+)"""
    r"|allowfullscreen|async|checked|controls|defer|disabled|hidden|loop|multiple|muted|noshade|nowrap|required"
)
# HTML tags, comments and document types of at most 10,000 characters (longer ones would exhaust the regex engine), but
# not "a < b", `vector<int>` or <D because ...>.
TAGS = (
    rf"(?i)<(?=[^<>]{{1,10000}}>)/?(?:{_ELEMENTS.replace(' ', '|')})(?:\s+(?:{_ATTRIBUTE}))*\s*/?>"
    r"|<!--(?:(?!<!--)[\s\S]){0,10000}?-->|<!doctype[^<>]{0,10000}>"
)


class Special(NamedTuple):
    """Ids of the special tokens [CLS], [SEP] and [MASK]."""

    start: int
    end: int
    mask: int


_SPECIAL = (PADDING, UNKNOWN, START, END, MASK)
_MIN_FREQUENCY = 2  # occurrences of a pair that becomes a piece


def word_pieces(vocabulary: dict[str, int], settings: dict[str, Any], *, drop_tags: bool = False) -> "Tokenizer":
    """Return a tokenizer with a vocabulary and the settings of `tokenizer_config.json`.

    Args:
      vocabulary: piece -> id, with [CLS] and [SEP].
      settings: content of `tokenizer_config.json`; missing settings are as in BERT.
      drop_tags: whether to replace HTML tags by blanks first.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=UNKNOWN))
    tokenizer.add_special_tokens([token for token in _SPECIAL if token in vocabulary])
    normalizer = normalizers.BertNormalizer(
        lowercase=settings.get("do_lower_case", True),
        strip_accents=settings.get("strip_accents"),
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
    )
    tags = normalizers.Replace(Regex(TAGS), " ")
    tokenizer.normalizer = normalizers.Sequence([tags, normalizer]) if drop_tags else normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary[token]) for token in (START, END)],
    )
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def byte_pieces(vocabulary: dict[str, int], merges: list[tuple[str, str]], settings: dict[str, Any]) -> "Tokenizer":
    """Return RoBERTa's tokenizer with a vocabulary and the settings of `tokenizer_config.json`.

    Args:
      vocabulary: piece -> id, with <s> and </s>.
      merges: pairs of pieces, in the order in which they are merged.
      settings: content of `tokenizer_config.json`; missing settings are as in RoBERTa.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    special = [token for token in ("<s>", "<pad>", "</s>", "<unk>") if token in vocabulary]
    mask = [AddedToken("<mask>", lstrip=True)] if "<mask>" in vocabulary else []
    tokenizer.add_special_tokens([*special, *mask])
    blank = settings.get("add_prefix_space", False)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=blank)
    start, end = (("<s>", vocabulary["<s>"]), ("</s>", vocabulary["</s>"]))
    tokenizer.post_processor = processors.RobertaProcessing(end, start, add_prefix_space=blank)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def learn_word_pieces(texts: Callable[[], Iterable[str]], data: Data) -> "Tokenizer":
    """Learn a vocabulary of word pieces from texts, and return a tokenizer with it.

    At most half of the pieces are single characters, the most frequent ones; other characters are unknown.

    Equal texts give an equal vocabulary. The library alone does not promise this: it numbers the characters within
    words in the order of a hash table, and these numbers break ties (tokenizers, issue 1794). A first pass therefore
    collects these characters, and a second pass gets them in a fixed order.

    Args:
      texts: returns an iterator over all texts; it is called several times.
      data: settings; `vocab_size` (maximum number of pieces, special tokens included) and `lowercase` are read.
    """
    from tokenizers import trainers

    special = list(_SPECIAL)
    plain = word_pieces(
        {token: i for i, token in enumerate(special)}, {"do_lower_case": data.lowercase}, drop_tags=True
    )
    characters: collections.Counter[str] = collections.Counter()
    for text in texts():
        characters.update(plain.normalizer.normalize_str(text))
    by_frequency = sorted((-count, character) for character, count in characters.items() if not character.isspace())
    alphabet = [character for _, character in by_frequency[: data.vocab_size // 2]]

    def learn(size: int, first_pieces: list[str]) -> list[str]:
        trainer = trainers.WordPieceTrainer(
            vocab_size=size,
            min_frequency=_MIN_FREQUENCY,
            special_tokens=first_pieces,
            initial_alphabet=alphabet,
            limit_alphabet=len(alphabet),
            show_progress=False,
        )
        plain.train_from_iterator(texts(), trainer)
        vocabulary = plain.get_vocab()
        return sorted(vocabulary, key=vocabulary.__getitem__)

    first_pieces = special + sorted(set(learn(0, special)) - set(special))
    vocabulary = {piece: i for i, piece in enumerate(learn(data.vocab_size, first_pieces)[: data.vocab_size])}
    return word_pieces(vocabulary, {"do_lower_case": data.lowercase}, drop_tags=True)
