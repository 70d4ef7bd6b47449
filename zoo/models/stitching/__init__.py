"""Networks stitched out of pretrained ones of several sizes: one checkpoint, many networks between the sizes."""
