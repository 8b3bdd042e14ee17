"""One comparison of the benchmark: check that two sides compute the same, then time them in turns."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from experiments.core.timing import interleaved


class Row(NamedTuple):
    """Ours against a peer: median seconds of each, their ratio with its quartiles, and the ratio that was aimed at."""

    section: str
    what: str
    peer: str
    threads: int
    ours: float
    theirs: float
    ratio: float
    low: float
    high: float
    target: float | None
    products: float | None = None  # seconds that the matrix products of either side take at the machine's best rate


class Race(NamedTuple):
    """What all comparisons of a run share."""

    threads: int
    device: str

    def __call__(
        self,
        section: str,
        what: str,
        peer: str,
        ours: Callable[[], Any],
        theirs: Callable[[], Any],
        *,
        same: tuple[Any, Any, float],
        target: float | None = None,
        rounds: int = 20,
        per_call: tuple[float, float] = (1, 1),
        products: float | None = None,
    ) -> Row:
        """Times two functions of no arguments; `per_call` says how much of the work one call of each does.

        `products` are the seconds below which the matrix products of the work hold either side.

        Raises:
            RuntimeError: the two results in `same` differ by more than its tolerance, relative to the second's largest.
        """
        result, expected, tolerance = same
        error = max(relative_error(a, b) for a, b in zip(result, expected, strict=True))
        if not error <= tolerance:
            raise RuntimeError(f"{section}, {what}: ours and {peer} differ by {error:.1e}, more than {tolerance:.0e}")
        timing = interleaved(
            {"ours": ours, "theirs": theirs}, rounds=rounds, slice_seconds=0.01, seconds=4, device=self.device
        )
        scale = per_call[1] / per_call[0]
        ratio, low, high = (scale * r for r in timing.ratio("ours", "theirs"))
        own, other = timing.seconds("ours") / per_call[0], timing.seconds("theirs") / per_call[1]
        return Row(section, what, peer, self.threads, own, other, ratio, low, high, target, products)


def relative_error(result: Any, expected: Any) -> float:
    """The largest difference of two tensors over the largest entry expected."""
    result, expected = torch.as_tensor(result).detach().double(), torch.as_tensor(expected).detach().double()
    return ((result - expected).abs().max() / expected.abs().max().clamp(min=1e-300)).item()
