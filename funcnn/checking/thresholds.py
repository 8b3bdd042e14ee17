"""Every number that a verdict hangs on, and why it is this one."""

from typing import NamedTuple


class Thresholds(NamedTuple):
    """The numbers, in the order in which a case meets them."""

    elsewhere: float = 1e-2
    """The relative distance of another point, where nothing that a rule keeps may come from."""
    roundings: int = 50
    """How many roundings of its own size a value may be off."""
    reordered: int = 4
    """How many roundings of a leaf two calls may differ by: sums are taken in another order."""
    directions: int = 8
    """An error of what is allowed passes with probability 1e-7, one of ten times that with 1e-15."""
    entry_by_entry: int = 10_000
    """Parameters; where the leaves have more in all, random directions alone find what is wrong."""
    many: int = 100_000
    """Numbers in all; where there are more, a rule is tried on a piece of its inputs, or some trials are left out."""
    piece: int = 500
    """Numbers of a piece of large inputs, if the axes are long enough."""
    probes: int = 4
    """Directions along which a large leaf is measured with all steps: an error of ten thresholds passes with 2e-4."""
    guilty: int = 8
    """Entries of a large leaf that are looked for one by one, and `sampled` that are drawn at random beside them."""
    sampled: int = 32
    coarse: float = 1e-3
    """A share of the gradient that differences must be able to see."""
    sure: float = 10.0
    """Times its own uncertainty that a slope must have to be one."""
    step: float = 6e-6
    """eps^(1/3), best where the error of differences is O(h^2)."""
    pieces: int = 8
    """Of a line, over which a gradient is integrated."""
    tiny: float = 1e-300
    """A distance that is next to nothing, where all is 0."""
    fine: float = 1e-3
    """eps^(1/5), best where it is O(h^4)."""
    one_sided: float = 1e-6
    """Small, to meet no other kink, yet above rounding."""
    settled_together: int = 4096
    """Entries of a leaf whose one-sided derivatives are taken."""
    gross: float = 0.1
    """An error that no finer reference explains."""
    seen: float = 1e-6
    """A share that no verdict passes over."""
    floors: float = 5.0
    """Noise floors that low precision may be off."""
    rounded_anew: float = 20.0
    """Times what rounding the operands anew does to the exact gradient that may be between two right ones."""
    noise: float = 2.0
    """Times what rounding the operands anew does to a gradient that is nothing but rounding."""
    most: float = 0.3
    """The error that no precision is allowed to have, however high its floor."""
    pairs: int = 8
    """Neighbours on either side of a point with kinks, up to `most_pairs` where many kinks show."""
    most_pairs: int = 64
    near: float = 1e-6
    """The relative distance of neighbours across the kinks at a point and few others."""
    far: float = 1e-2
    """That of neighbours away from all of them."""


LIMITS = Thresholds()
EPS = 2.0**-52
WALKED_TOGETHER = 2**22  # numbers that the copies of a leaf may have in one evaluation: 32 MiB
