"""The plate at its own depth and colour, and the edit carried onto it."""
