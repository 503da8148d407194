"""The noise schedule, its solvers and their approximations."""
