"""Time, memory and utilisation of sampling and training on this machine's devices.

What is timed is what users run: `inference.pipeline.generate` and `training.step`.
"""
