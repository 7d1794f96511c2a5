"""Pieces that variants are assembled from; every one takes lengths or a mask, so that padding is never read."""
