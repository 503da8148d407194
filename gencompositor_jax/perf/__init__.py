"""What a run costs: counted, planned by compiling, and measured."""
