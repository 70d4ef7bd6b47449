"""The models, one file per family, and what ties them to timm."""
