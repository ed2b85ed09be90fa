"""Sets of boxes and masks, and an answer per pixel, on what `vit_jax` is made of."""
