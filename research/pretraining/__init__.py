"""Pre-train language models on texts without labels."""
