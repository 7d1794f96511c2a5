"""Predict, explain, serve and export a trained run."""
