"""Training and evaluation data: sources, augmentation, procedural clips, records."""
