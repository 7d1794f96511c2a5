"""Programs that measure speed, memory and load against peers."""
