"""The network: positions, attention, the two stacks and the denoiser that joins them."""
