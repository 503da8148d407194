"""Sweeps over the ablations of configs/ablations.py: equal budgets, several seeds, one benchmark."""
