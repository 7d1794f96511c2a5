"""The training step and the training loop; no files, processes or threads."""
