"""Language models from texts without labels."""
