"""How good an answer is: metrics, baselines, and the protocols that compare a model with them."""
