"""gradtx beside optax and PyTorch: the same work, in one process, in turns.

Each file answers one question (`step`, `eager`, `sweep`, `train`, `minimize`, `second_order`, `learned`) and ends in a
`Report`; `command` prints and saves it. `timing` holds what makes the numbers comparable, `program` what is read from
the compiler.
"""
