"""Fast kernels whose derivatives are written out, each beside its plain reference."""
