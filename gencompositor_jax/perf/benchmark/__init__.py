"""How long sampling and training take on the devices at hand, and how much of them they use.

What is timed is what users run: `inference.pipeline.generate` and `training.step`, called through a
stopwatch.
"""
