"""Tversky's similarity over learned features, as a function and as layers."""
