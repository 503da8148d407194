"""What a program will need before a device is at hand: compiled for chips that aren't there, read, summed up.

`topology` finds the chips, `programs` has what sampling and training run, `plan` compiles it, `hlo` reads
what comes out; `memory`, `work`, `collectives` and `roofline` count; `report` says it.
"""
