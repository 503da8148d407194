"""Segmenters: cut an element out of footage that no key can cut, from a word about what it is."""
