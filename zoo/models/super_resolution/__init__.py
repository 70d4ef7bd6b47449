"""Networks that enlarge images: (batch, 3, height, width) to (batch, 3, scale height, scale width)."""
