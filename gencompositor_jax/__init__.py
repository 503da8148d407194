"""Generative video compositing in JAX: a moving element, put into a video where its trajectory says."""
