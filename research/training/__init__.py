"""What a training step and a loop are; no files, processes or threads."""
