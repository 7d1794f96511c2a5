"""One run's life: its folder, preparation, training, resuming and restoring."""
