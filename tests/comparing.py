"""Make a comparison in one call, for tests that check the files of its folder."""

from research.comparison.compare import ComparisonSpec, run_comparison


def compare_into(folder, variants, corpus, log=lambda line: None, **spec):
    """Compare variants in a folder, and return the folder; `spec` are more fields of `ComparisonSpec`."""
    run_comparison(ComparisonSpec(variants, corpus, **spec), folder, log=log)
    return folder
