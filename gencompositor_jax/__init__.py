"""Generative video compositing in JAX and Flax: an element, put into a video along a trajectory."""

__version__ = "0.1.0"
