"""Turn saved results into tables, plots and pages. Trains nothing and imports no JAX."""
