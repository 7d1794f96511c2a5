"""Metrics, intervals and verdicts: arrays in, numbers out; no JAX, no run folders."""
