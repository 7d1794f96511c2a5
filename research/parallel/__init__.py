"""Train many runs at once on one machine."""
