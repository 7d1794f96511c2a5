"""The families of encoders that `Bert` computes, as tables: what HuggingFace's files call them, and how they differ.

bert         Devlin et al. 2019
distilbert   Sanh et al. 2019: no segments, and a rectifier below the classifier
roberta      Liu et al. 2019: positions are counted from behind the padding id
xlm-roberta  Conneau et al. 2020: RoBERTa in many languages
"""

from typing import Any, NamedTuple

# Of each setting: the name in config.json, the field of `Bert`, and the value if config.json leaves it out.
_BERT_SETTINGS = (
    ("hidden_size", "hidden_size", 768),
    ("num_hidden_layers", "layers", 12),
    ("num_attention_heads", "heads", 12),
    ("intermediate_size", "feed_forward", 3072),
    ("max_position_embeddings", "max_positions", 512),
    ("type_vocab_size", "segments", 2),
    ("hidden_act", "activation", "gelu"),
    ("layer_norm_eps", "epsilon", 1e-12),
    ("hidden_dropout_prob", "dropout", 0.1),
    ("attention_probs_dropout_prob", "attention_dropout", 0.1),
)
_DISTILBERT_SETTINGS = (
    ("dim", "hidden_size", 768),
    ("n_layers", "layers", 6),
    ("n_heads", "heads", 12),
    ("hidden_dim", "feed_forward", 3072),
    ("max_position_embeddings", "max_positions", 512),
    ("activation", "activation", "gelu"),
    ("dropout", "dropout", 0.1),
    ("attention_dropout", "attention_dropout", 0.1),
)
# Of each module of `Bert`: the name of its tensors. Names inside a block follow its number.
_EMBEDDINGS = {
    "encoder/embedding": "embeddings.word_embeddings",
    "encoder/embedding_position": "embeddings.position_embeddings",
    "encoder/embedding_segment": "embeddings.token_type_embeddings",
    "encoder/embedding_norm": "embeddings.LayerNorm",
}
_BERT_BLOCK = {
    "attention/query": "attention.self.query",
    "attention/key": "attention.self.key",
    "attention/value": "attention.self.value",
    "attention/out": "attention.output.dense",
    "norm_0": "attention.output.LayerNorm",
    "expand": "intermediate.dense",
    "contract": "output.dense",
    "norm_1": "output.LayerNorm",
}
_DISTILBERT_BLOCK = {
    "attention/query": "attention.q_lin",
    "attention/key": "attention.k_lin",
    "attention/value": "attention.v_lin",
    "attention/out": "attention.out_lin",
    "norm_0": "sa_layer_norm",
    "expand": "ffn.lin1",
    "contract": "ffn.lin2",
    "norm_1": "output_layer_norm",
}
_BERT_HEADS = {
    "pooler": "pooler.dense",
    "predictions": "cls.predictions",
    "predictions/transform": "cls.predictions.transform.dense",
    "predictions/norm": "cls.predictions.transform.LayerNorm",
    "next_sentence": "cls.seq_relationship",
}


class Family(NamedTuple):
    """How HuggingFace's files describe a family of encoders, and how it differs from BERT."""

    architecture: str  # the names of its classes in `transformers` begin with this
    prefix: str  # of the encoder's tensors, if the file holds a head too
    settings: tuple[tuple[str, str, Any], ...]
    vocab_size: int  # if config.json leaves it out
    names: dict[str, str]
    block: str  # name of the list of blocks
    names_in_block: dict[str, str]
    classifier: str  # name of the classifier's tensors
    pooler_activation: str = "tanh"
    has_segments: bool = True
    counts_from_padding: bool = False  # the position of the first token is the padding id + 1
    pooler_without_classifier: str = ""  # what the pooler is called in a file without a classifier, if otherwise


_BERT = Family(
    architecture="Bert",
    prefix="bert.",
    settings=_BERT_SETTINGS,
    vocab_size=30_522,
    names=_EMBEDDINGS | _BERT_HEADS,
    block="encoder.layer",
    names_in_block=_BERT_BLOCK,
    classifier="classifier",
)
_ROBERTA = _BERT._replace(
    architecture="Roberta",
    prefix="roberta.",
    vocab_size=50_265,
    names=_EMBEDDINGS | {"pooler": "classifier.dense"},
    classifier="classifier.out_proj",
    counts_from_padding=True,
    pooler_without_classifier="pooler.dense",
)
FAMILIES = {
    "bert": _BERT,
    "distilbert": _BERT._replace(
        architecture="DistilBert",
        prefix="distilbert.",
        settings=_DISTILBERT_SETTINGS,
        names=_EMBEDDINGS | {"pooler": "pre_classifier"},
        block="transformer.layer",
        names_in_block=_DISTILBERT_BLOCK,
        pooler_activation="relu",
        has_segments=False,
    ),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA._replace(architecture="XLMRoberta"),
}
