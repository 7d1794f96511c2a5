"""Saved results to tables, plots and pages; trains nothing, no JAX."""
