"""BERT's tokenizer (Devlin et al. 2019), over a vocabulary that is given or learnt from texts."""

import collections
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from research.settings import Data

if TYPE_CHECKING:  # imported where used, so that training imports without it
    from tokenizers import Tokenizer

PADDING, UNKNOWN, START, END, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
TAGS = r"<[/!?]?[A-Za-z][^<>]*>"  # of HTML; not "a < b"


class Special(NamedTuple):
    """Ids of the tokens that stand around texts, and of what stands for a token that is to be guessed."""

    start: int
    end: int
    mask: int


_SPECIAL = (PADDING, UNKNOWN, START, END, MASK)
_LEAST = 2  # occurrences of what becomes a piece


def word_pieces(vocabulary: dict[str, int], settings: dict[str, Any], *, drop_tags: bool = False) -> "Tokenizer":
    """The tokenizer with a vocabulary, as `tokenizer_config.json` describes it.

    Args:
      vocabulary: piece -> id, with [CLS] and [SEP].
      settings: of that file; what it does not say is as in BERT's.
      drop_tags: whether HTML tags become blanks first.
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


def learn_word_pieces(texts: Callable[[], Iterable[str]], data: Data) -> "Tokenizer":
    """A tokenizer with the pieces of these texts: their characters, and what is put together most often.

    At most half of the pieces are characters, the commonest; others are unknown. Equal texts give an equal vocabulary,
    which the library alone does not promise: it numbers the characters within words in the order of a hash table, and
    the numbers break ties (tokenizers, issue 1794). So a first pass finds those characters, and a second one, which
    is given them in their order, has nothing left to number by chance.

    Args:
      texts: gives the texts, each time it is called from the first.
      data: of which `vocab_size`, at most so many pieces with the special ones, and `lowercase` are read.
    """
    from tokenizers import trainers

    special = list(_SPECIAL)
    plain = word_pieces(
        {token: i for i, token in enumerate(special)}, {"do_lower_case": data.lowercase}, drop_tags=True
    )
    characters: collections.Counter[str] = collections.Counter()
    for text in texts():
        characters.update(plain.normalizer.normalize_str(text))
    found = sorted((-count, character) for character, count in characters.items() if not character.isspace())
    alphabet = [character for _, character in found[: data.vocab_size // 2]]

    def learn(size: int, first: list[str]) -> list[str]:
        trainer = trainers.WordPieceTrainer(
            vocab_size=size,
            min_frequency=_LEAST,
            special_tokens=first,
            initial_alphabet=alphabet,
            limit_alphabet=len(alphabet),
            show_progress=False,
        )
        plain.train_from_iterator(texts(), trainer)
        vocabulary = plain.get_vocab()
        return sorted(vocabulary, key=vocabulary.__getitem__)

    first = special + sorted(set(learn(0, special)) - set(special))
    vocabulary = {piece: i for i, piece in enumerate(learn(data.vocab_size, first)[: data.vocab_size])}
    return word_pieces(vocabulary, {"do_lower_case": data.lowercase}, drop_tags=True)
