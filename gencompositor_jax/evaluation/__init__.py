"""Metrics, baselines, and protocols that compare a model with them."""
