"""Programs that study the statistics and the training protocol."""
