"""Composites as jobs: what describes one, and what makes many of them. Knows no HTTP."""
