"""Comparisons in one call, for tests that look at what is in the folder."""

from research.comparison.compare import ComparisonSpec, compare


def compare_into(folder, variants, corpus, log=lambda line: None, **spec):
    """Compare variants in a folder, which is returned; `spec` as of `ComparisonSpec`."""
    compare(ComparisonSpec(variants, corpus, **spec), folder, log=log)
    return folder
