"""Training networks that look twice: stage by stage, on one task or two."""
