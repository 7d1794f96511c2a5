"""One comparison on several corpora: how often each verdict comes again."""

from collections.abc import Mapping

from research.reporting.results import Results

HEADER = ("variant", "against", "better", "equivalent", "undecided", "worse", "differences (points)")


def replication_rows(of_corpora: Mapping[str, Results]) -> list[tuple[str, ...]]:
    """A row a pair: on how many corpora it had each verdict, and its difference on each.

    The intervals are simultaneous over pairs and corpora, so the number of corpora with a verdict is, with the
    confidence of one table, the least number on which it is true (the Bonferroni count of Dror et al. 2017, section 4).

    Args:
      of_corpora: name of a corpus -> its results, made with `Claims.corpora` their number.
    """
    found: dict[tuple[str, str], dict[str, dict]] = {}
    for corpus, results in of_corpora.items():
        for pair in results.pairs:
            found.setdefault((pair["a"], pair["b"]), {})[corpus] = pair
    rows = []
    for (a, b), pairs in found.items():
        verdicts = [pair["verdict"] for pair in pairs.values()]
        counts = [f"{verdicts.count(word)} of {len(verdicts)}" for word in HEADER[2:6]]
        shown = ", ".join(f"{corpus} {100 * pair['difference']:+z.1f}" for corpus, pair in pairs.items())
        rows.append((a, b, *counts, shown))
    return rows
