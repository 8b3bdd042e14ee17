"""Hostile input at every public door, ten thousand cases a run: `python -m experiments.fuzz --cases 10000 --seed 0`.

A *call* is a right use of one public name, with the same numbers computed in another way beside it. A *spoiler* makes one
place in its arguments hostile, or strange and legitimate. A *case* is a call, places and spoilers for them, all drawn from
two integers, the seed and the number of the case. It ends well in

    a right number     what the call returns is what the other way makes of the same arguments, spoiled as they are
    a refusal          InputError, which names the place; never of arguments that are strange and legitimate
    their own error    an exception that a function among the arguments raised, or that the name says it raises

and else it is a failure: a wrong number, a number where there is none, any other exception, an argument or anything global
that is changed, no end, more than 1 GiB of memory, or the end of the process.

case        what a call and a case are, and how a case is drawn
spoilers    of tensors, hostile of others than tensors
judge       how a case ends
snapshot    the bits of arguments and of what is global
agreement   whether two trees hold the same numbers
workers     processes that a case may end
formulas    the other way, in torch's own words
rows        the calls, a row or more for every public name
"""
