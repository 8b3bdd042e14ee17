"""Tensors: data of every rank, parts of them, and operations beside what they mean entry by entry."""

from dataclasses import dataclass
from typing import Any

import torch

from experiments.core.options import BadOption, Options
from experiments.core.result import Result, Table
from experiments.tensors import broadcasting, kinds, operations, slices


@dataclass(frozen=True, kw_only=True)
class Tensors(Options):
    """Shows tensors of rank 0 to 5, the four kinds of data, slices, batches, operations and broadcasting."""

    batch_size: int = 128
    """Samples in a batch of digits; the last one is short unless this divides 1797."""
    window: int = 64
    """Timesteps of each sample of the time series, at most 640."""
    frames: int = 8
    """Frames of each video, at most 200."""

    def __post_init__(self) -> None:
        """Raises BadOption where a photograph has no such window, or has too few pixels to move by."""
        super().__post_init__()
        for name, largest in (("window", 640), ("frames", 200)):
            if getattr(self, name) > largest:
                raise BadOption(f"{name}: got {getattr(self, name)}, needs at most {largest}")


def run(options: Tensors) -> Result:
    """The data, the slices and batches of digits, and every operation against its definition."""
    generator, data = options.generator(), kinds.kinds(options.window, options.frames, options)
    ranks = {name: (x.ndim, tuple(x.shape), str(x.dtype).removeprefix("torch.")) for name, x in kinds.ranks(data).items()}
    digits = slices.digits()
    parts, batches = slices.facts(digits), slices.batches(digits, options.batch_size)
    cases = operations.cases(generator, **options.tensors)
    differences = {case.written: case.difference() for each in cases.values() for case in each}
    repeated = broadcasting.equalities(generator, **options.tensors)
    whole = torch.equal(torch.cat(batches), digits)
    return Result(
        "Tensors: data, slices and operations",
        "The rank of a tensor is the number of its axes, its shape how long they are. Here are measurements of tumours, "
        "scan lines of two photographs, the photographs, and videos that pan over them; slices and batches of 1797 digits, "
        "enlarged to 28 x 28 pixels; and operations on small random tensors beside their formulas, computed entry by entry.",
        numbers={
            "ranks": ranks,
            "slices": parts,
            "batches": [len(batch) for batch in batches],
            "batches are the whole": whole,
            "differences": differences,
            "broadcasting equals repetition": repeated,
        },
        observations=_observations(ranks, parts, [len(batch) for batch in batches], whole, differences, repeated),
        figures={"data": kinds.draw(data), "slices": slices.draw(digits), "broadcasting": broadcasting.draw()},
        tables=[
            Table(
                "Tensors of every rank",
                ["what", "axes", "rank", "shape", "dtype"],
                [[name, kinds.AXES.get(name, ""), rank, str(shape), dtype] for name, (rank, shape, dtype) in ranks.items()],
            ),
            Table(
                "Operations beside their formulas, entry by entry",
                ["kind", "operation", "shape", "an entry", "largest difference"],
                [
                    [
                        kind,
                        case.written,
                        str(tuple(case.result.shape)),
                        f"${case.formula}$",
                        f"{differences[case.written]:.1g}",
                    ]
                    for kind, each in cases.items()
                    for case in each
                ],
            ),
        ],
    )


def _observations(ranks: Any, parts: Any, sizes: list[int], whole: bool, differences: Any, repeated: Any) -> list[str]:
    views = [name for name, part in parts.items() if not part["copies"]]
    last = f", the last one with {sizes[-1]}" if sizes[-1] < sizes[0] else ""
    equal = sum(repeated.values())
    worst = max(differences, key=lambda written: differences[written])
    return [
        f"The data have ranks {', '.join(str(rank) for rank, _, _ in ranks.values())}; the video has shape "
        f"{ranks['video'][1]} and dtype {ranks['video'][2]}.",
        f"The slices of the digits have shapes {', '.join(str(part['shape']) for part in parts.values())}; {len(views)} of "
        f"{len(parts)} copy nothing: they look at the same memory.",
        f"{sum(sizes)} samples are {len(sizes)} batches of {sizes[0]}{last}; put together they are "
        f"{'the whole again' if whole else 'not the whole'}.",
        f"{len(differences)} operations agree with their formulas, to {differences[worst]:.1g}.",
        f"In {equal} of {len(repeated)} cases broadcasting equals, to the bit, the same operation on repeated tensors.",
    ]
