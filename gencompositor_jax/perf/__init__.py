"""Cost of a run: counted from the architecture, planned by compiling, and measured."""
