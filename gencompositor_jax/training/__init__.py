"""From examples to weights: loss, state and loop."""
