"""Conversion of the released PyTorch weights to a checkpoint, and back."""
