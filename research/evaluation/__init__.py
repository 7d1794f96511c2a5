"""Metrics, intervals and verdicts: arrays in, numbers out; no JAX, no run folders.

Start with `compare_scores`, which compares two classifiers of any library from arrays of right answers.
"""
