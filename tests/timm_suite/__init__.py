"""Runs timm's own test-suite on our models."""
