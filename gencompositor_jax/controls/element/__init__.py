"""The element, extracted from its own clip."""
