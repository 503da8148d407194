"""PyTorch checkpoints to ours and back: which tensor is which parameter, and how its axes are ordered."""
