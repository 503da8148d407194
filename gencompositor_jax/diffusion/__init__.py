"""The noise schedule, its solvers and what may be approximated of them."""
