"""Target masks: inflated in pixels, reduced to latents and to tokens, reshaped in training."""
