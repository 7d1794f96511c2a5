"""scikit-learn: TF-IDF of words and word pairs, and logistic regression; compared with `linear` on long texts."""

from typing import Any

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from experiments.benchmarks import peers
from experiments.variants import load_config
from research.data.corpora import load
from research.runs.texts import RunSpec, split_of


def imdb(threads: int) -> dict[str, Any]:
    """Read IMDb, train on the first fold's training texts and test; `linear` has the same C, 10."""
    corpus = load("imdb")
    split = split_of(RunSpec(load_config("linear"), corpus, 5, 0, 0))
    vectorizer, model = TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(C=10, max_iter=1000)
    model.fit(vectorizer.fit_transform([corpus.texts[i] for i in split.train]), corpus.labels[split.train])
    features = vectorizer.transform([corpus.texts[i] for i in split.test])
    return {"accuracy": [model.score(features, corpus.labels[split.test])]}


if __name__ == "__main__":
    peers.answer({"imdb": imdb})
