"""Read, audit, split, tokenise and batch texts; no JAX."""
