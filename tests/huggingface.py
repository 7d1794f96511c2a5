"""How the references of test_bert.py were made, by PyTorch and transformers: neither is needed to test against them.

    python tests/huggingface.py make tests/data                a small BERT, tiny_bert/, and its states, tiny_bert.npz
    python tests/huggingface.py relatives tests/data           the same for DistilBERT, RoBERTa and XLM-R, with logits
    python tests/huggingface.py states FOLDER FILE.npz         the states of another
    python tests/huggingface.py compare FOLDER PREDICTIONS     an exported run's predictions, there and here

Run with torch 2.15.0 and transformers 5.24.0 on 2 cores of an Intel Xeon, 2026-11-26; the relatives with torch 2.14.1,
2026-11-30.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

SENTENCES = (
    "",
    "Fine.",
    "a fine film",
    "Two hours of my life, and not one of them well spent!",
    "The plot is thin, the jokes are old, but she is a joy to watch.",
    "Un café, déjà vu, naïveté: accents go and words stay.",
    "这部电影很好看 (this film is worth seeing)",
    "unbelievably antidisestablishmentarianistic, hyper-realistic, post-postmodern",
    "1,000,000 explosions @ $5.99 each = no story; 0/10 #fail",
    "Don't &amp; won't <br /> can't -- isn't 'quoted' \"twice\"",
    "emoji \U0001f600 and tabs\tand\nnew lines and [MASK] and   spaces",
    "It begins slowly, goes on slowly and ends slowly, and is over sooner than one would like.",
    "What might have been a sentimental story becomes, by her patience and his wit, a film about work.",
    "I laughed once, at the credits.",
    *(
        " ".join(
            f"Number {i} of the films that I saw in that year was {'better' if i % 2 else 'worse'} than the one before,"
            for i in range(count)
        )
        for count in (2, 3, 5, 8, 12, 24)
    ),
)


def states(folder: str, file: str, most: int = 512) -> None:
    """Writes what transformers makes of SENTENCES, each alone: ids, pooled output, and some of the hidden states."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    arrays = {}
    for n, sentence in enumerate(SENTENCES):
        ids = tokenizer(sentence, truncation=True, max_length=most, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            found = model(input_ids=ids)
        hidden = found.last_hidden_state[0].numpy()
        arrays[f"{n}/ids"] = ids[0].numpy().astype(np.int32)
        arrays[f"{n}/pooled"] = found.pooler_output[0].numpy()
        arrays[f"{n}/rows"] = hidden[[0, len(hidden) // 2, -1]]
        arrays[f"{n}/mean"] = hidden.mean(axis=0)
    np.savez_compressed(file, **arrays)


def make(folder: str) -> None:
    """A random BERT, small enough to be kept, with a vocabulary of its own, and what transformers makes of it."""
    import tokenizers
    import torch
    import transformers

    path = Path(folder) / "tiny_bert"
    trained = tokenizers.BertWordPieceTokenizer()
    trained.train_from_iterator(SENTENCES, vocab_size=220, show_progress=False)
    path.mkdir(parents=True)
    trained.save_model(str(path))
    tokenizer = transformers.BertTokenizer(str(path / "vocab.txt"))
    torch.manual_seed(0)
    model = transformers.BertModel(
        transformers.BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=24,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=40,
            max_position_embeddings=64,
            initializer_range=0.3,
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():  # away from zeros and ones, so that none could be left out
            parameter += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    states(str(path), f"{path}.npz", 64)


def relatives(folder: str) -> None:
    """Random models for sequence classification of BERT's relatives, with tokenizers of their own kinds."""
    import torch
    import transformers

    pieces = json.loads((Path(folder) / "tiny_bert" / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    same = {"vocab_size": 0, "num_labels": 3, "initializer_range": 0.3}
    names = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40}
    # Positions are counted from the padding id, so its value matters.
    roberta = names | {"max_position_embeddings": 67, "pad_token_id": 2, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
    others = {"dim": 24, "n_layers": 2, "n_heads": 4, "hidden_dim": 40, "max_position_embeddings": 64}
    made = {
        "tiny_distilbert": (transformers.BertTokenizer(vocab=pieces), transformers.DistilBertConfig, others),
        "tiny_roberta": (_byte_pieces(), transformers.RobertaConfig, roberta),
        "tiny_xlmr": (_sentence_pieces(), transformers.XLMRobertaConfig, roberta | {"pad_token_id": 1}),
    }
    for seed, (name, (tokenizer, config, sizes)) in enumerate(made.items()):
        path = Path(folder) / name
        torch.manual_seed(seed)
        settings = config(**same | sizes | {"vocab_size": len(tokenizer)})
        assert name == "tiny_distilbert" or tokenizer.pad_token_id == settings.pad_token_id
        model = transformers.AutoModelForSequenceClassification.from_config(settings).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
        model.save_pretrained(path)
        tokenizer.save_pretrained(path)
        _write_logits(model, tokenizer, path.with_suffix(".npz"))


def _byte_pieces() -> Any:
    """RoBERTa's kind of tokenizer: pairs of bytes."""
    import tokenizers
    import transformers

    trained = tokenizers.ByteLevelBPETokenizer()
    special = ["<s>", "</s>", "<pad>", "<unk>", "<mask>"]
    trained.train_from_iterator(SENTENCES, vocab_size=300, special_tokens=special, show_progress=False)
    model = json.loads(trained.to_str())["model"]
    return transformers.RobertaTokenizer(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]])


def _sentence_pieces() -> Any:
    """XLM-R's kind of tokenizer: a unigram model, with the normaliser of sentencepiece left out."""
    import tokenizers
    import transformers

    trained = tokenizers.Tokenizer(tokenizers.models.Unigram())
    trained.pre_tokenizer = transformers.XLMRobertaTokenizer()._tokenizer.pre_tokenizer
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = tokenizers.trainers.UnigramTrainer(
        vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    trained.train_from_iterator(SENTENCES, trainer)
    pieces = json.loads(trained.to_str())["model"]["vocab"]
    return transformers.XLMRobertaTokenizer(vocab=[*map(tuple, pieces), ("<mask>", 0.0)])


def _write_logits(model: Any, tokenizer: Any, file: Path) -> None:
    """Writes what transformers makes of SENTENCES in one padded batch: ids, some of the hidden states, and logits."""
    import torch

    batch = tokenizer(list(SENTENCES), truncation=True, max_length=64, padding=True, return_tensors="pt")
    with torch.inference_mode():
        found = model(**batch, output_hidden_states=True)
    arrays = {"logits": found.logits.numpy()}
    for n, mask in enumerate(batch["attention_mask"].bool()):
        hidden = found.hidden_states[-1][n][mask].numpy()
        arrays[f"{n}/ids"] = batch["input_ids"][n][mask].numpy().astype(np.int32)
        arrays[f"{n}/rows"] = hidden[[0, len(hidden) // 2, -1]]
        arrays[f"{n}/mean"] = hidden.mean(axis=0)
    np.savez_compressed(file, **arrays)


def compare(folder: str, file: str) -> None:
    """Prints by how much the output of `./launch.sh predict` differs from what transformers makes of the export."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    differences = []
    for line in Path(file).read_text("utf-8").rstrip("\n").split("\n"):
        ours = json.loads(line)
        with torch.inference_mode():
            logits = model(**tokenizer(ours["text"], truncation=True, return_tensors="pt")).logits[0]
        for label, p in enumerate(logits.softmax(dim=-1).tolist()):
            differences.append(abs(p - ours["probabilities"][model.config.id2label[label]]))
    print(f"{file}: {len(differences)} probabilities, largest difference {max(differences):.1e}")


if __name__ == "__main__":
    {"make": make, "relatives": relatives, "states": states, "compare": compare}[sys.argv[1]](*sys.argv[2:])
