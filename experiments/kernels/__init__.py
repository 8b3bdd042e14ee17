"""Kernels: backward rules as people write them, right and wrong, to judge the check on what it was not tuned on.

`corpus.KERNELS` are formulas, each with planted bugs; `operands` is what is right or wrong in use and not in a formula.
Every third kernel by name is held out (`names.held_out`): whoever works on the check looks at the others only.
`python -m experiments.kernels.judge` counts bugs found, right kernels alarmed, and causes named, for both apart.
"""
