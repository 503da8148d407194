"""Target masks: inflated in pixels, sampled at the latents, pooled to tokens, reshaped in training."""
