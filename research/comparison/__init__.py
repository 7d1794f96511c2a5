"""Compare variants over many runs on a corpus, in a folder with its table and report."""
