"""Metrics, intervals and verdicts: arrays in, numbers out; no JAX, no run folders.

Start with `compare_scores.compare_scores`: it compares two classifiers of any library from arrays of right answers.
"""
