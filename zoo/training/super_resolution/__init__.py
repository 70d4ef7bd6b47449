"""Training and measuring models that enlarge images."""
