"""How far a sum of random numbers may wander: bounds of stated level for any number of draws, whatever their tails.

A sum S of n independent numbers X of mean 0 is held against its own sum of squares [S] and the variance s^2 of one X, or any
number above that. For all real x, exp(x - x^2 / 6) <= 1 + x + x^2 / 3, so that for every l

    E exp(l S - l^2 Q / 2) <= 1,   Q = [S] / 3 + 2 n s^2 / 3,

which is a fair bet on l: it multiplies a stake by 1 at most in the mean. A stake spread over all l by a normal law of
variance 1 / y has become sqrt(y / (Q + y)) exp(S^2 / 2 (Q + y)), and by Markov's inequality that is 1 / a with probability a
at most. Hence, with probability 1 - a at least,

    |S| <= sqrt((Q + y) (2 log(1 / a) + log((Q + y) / y)))                                              `farthest`

No tail is assumed: a rare large X makes Q large, and with it what is allowed. With y = n s^2 / 32 and a = 1e-9 it is 1.11
times as far as a normal sum goes. (Delyon, "Exponential inequalities for sums of weakly dependent variables", 2009; de la
Peña, Klass and Lai, "Self-normalized processes", 2004.)

Where the variance is not known it is bounded by squares of other draws. Squares are not negative, and so their mean is
rarely small: with a kurtosis E X^4 / s^4 of k at most,

    s^2 <= mean(X^2) / (1 - sqrt(2 k log(1 / a) / n))   with probability 1 - a at least                 `variance_bound`

Where X is as likely as -X, whatever it is, n signs are all that is random, and Hoeffding's inequality needs no moment:

    |S| <= sqrt(2 log(2 / a) [S])   with probability 1 - a at least                                     `balanced`
"""

import math

import torch
from torch import Tensor

SPREAD = 32.0  # n s^2 / y: the bound is least near 30, and hardly worse anywhere from 10 to 100


def farthest(squares: Tensor, variance: Tensor, count: int, odds: float) -> Tensor:
    """How far from 0 a sum of `count` numbers of mean 0 may be, of whose squares the sum is given; odds = log(1 / a)."""
    y = (count * variance / SPREAD).clamp(min=torch.finfo(squares.dtype).tiny)
    q = squares / 3 + 2 * count * variance / 3
    return ((q + y) * (2 * odds + (1 + q / y).log())).sqrt()


def variance_bound(mean_square: Tensor, count: int, kurtosis: float, odds: float) -> Tensor:
    """What the variance of numbers of mean 0 is at most, by the mean of the squares of `count` of them."""
    return mean_square / (1 - math.sqrt(2 * kurtosis * odds / count))


def balanced(squares: Tensor, odds: float) -> Tensor:
    """How far from 0 a sum of numbers may be that are as likely as their negatives, by the sum of their squares."""
    return (2 * (odds + math.log(2)) * squares).sqrt()
