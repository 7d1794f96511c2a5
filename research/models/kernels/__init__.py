"""Fast recurrences and products, each beside its plain reference."""
