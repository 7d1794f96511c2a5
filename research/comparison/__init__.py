"""Variants times runs on a corpus: a folder with its table and report."""
