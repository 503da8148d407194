"""The element, cut out of its own clip."""
