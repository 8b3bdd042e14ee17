"""Optimizers: from gradients to the next parameters.

Two shapes. A `Transformation` turns gradients into updates, which are added to the parameters (the shape of optax and
torchopt). An `Optimizer` chooses the points at which it evaluates, so it is handed the function itself: Nesterov's
method wants the gradient at a point ahead, a line search wants more values. `descend` lifts the first into the second.

The equations use w for the parameters, g for the gradient of the loss at w, and update every leaf alike.

    transformations    sgd, momentum, rmsprop, adam, adamw
    combinations       chain; clip_by_norm, which stands first in one
    descent            descend
    nesterov           nesterov
    mezo               mezo: descent by two values, without a gradient
    searches           line_search, exact_line_search
    quasi_newton       bfgs
    hyperparameters    numbers that are functions of the step
    schedules          cosine, piecewise, warmup: such functions
    averaging          averaged: the mean of the points gone through
    masking            masked: some parameters alone are trained
    compiling          compiled, compiled_scan: any of them, a whole step as one compiled function
"""
