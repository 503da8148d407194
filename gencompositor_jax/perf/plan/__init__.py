"""Memory, work and time of sampling and training on devices that need not be present, by compiling for them.

`topology` describes the devices, `workloads` lowers the programs of sampling and training, `compiling`
compiles them, `hlo` parses the result; `memory`, `work`, `collectives` and `roofline` count; `report` prints.
"""
