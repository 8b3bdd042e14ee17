"""Gradient providers: ways to differentiate one objective, all of one type, so that any can train and any check another.

reverse         explicit, func_grad, autograd: derived by hand, by torch.func, by a tape
differences     every difference quotient of the library; finite_difference
structured      what moving one entry of a network changes, and what it does not
complex_plane   complex_step: the derivative from one value at a complex point
stochastic      spsa, forward_gradient, evolution: slopes along random directions, see `directions` and `drawn`
scores          score_function, of an Expectation
doors           what all of them look at first
listing         PROVIDERS, by name
"""
