"""What the ranks measured, in sentences and tables."""

from statistics import quantiles
from typing import Any

from experiments.core.result import Result, Table
from experiments.distributed.measure import FACTORS, GRADIENTS


def result(options: Any, numbers: dict[str, Any]) -> Result:
    """The sentences and the tables."""
    ranks, apart, traffic = numbers["ranks"], numbers["distances"], numbers["traffic"]
    rows = [[name, f"{each['from one process']:.1e}", f"{each['between ranks']:g}"] for name, each in apart.items()]
    sizes = [[name, f"{each['formula']:,.0f}", f"{each['counted']:,.0f}"] for name, each in traffic.items()]
    return Result(
        "Several ranks: the same gradient, divided",
        f"{ranks} ranks of torch.distributed over gloo. Sizes 64, {options.hidden}, 10 with tanh on {options.samples} "
        f"digits, {options.steps} steps of momentum by every provider, in float64, beside one process with the whole batch.",
        numbers=numbers,
        observations=observations(options, numbers),
        tables=[
            Table(f"After {options.steps} steps", ["provider", "from one process", "between ranks"], rows),
            Table("Bytes that a rank sends in a step", ["scheme", "by formula", "counted, with headers"], sizes),
        ],
    )


def observations(options: Any, numbers: dict[str, Any]) -> list[str]:
    """Equalities, traffic, times, and the run that lost a rank."""
    ranks, apart, traffic, life = (numbers[part] for part in ("ranks", "distances", "traffic", "life"))
    from_one = {name: each["from one process"] for name, each in apart.items()}
    quotients = {name: distance for name, distance in from_one.items() if "difference" in name}
    farthest, largest = max(quotients.items(), key=lambda item: item[1])
    exact = max(distance for name, distance in from_one.items() if name not in quotients)
    between = max(each["between ranks"] for each in apart.values())
    over = max(each["counted"] / each["formula"] - 1 for each in traffic.values() if each["formula"])
    factors = traffic[FACTORS]["counted"] / traffic[GRADIENTS]["counted"]
    faster, slower = (quantiles(numbers["times"][side], n=4) for side in ("differences", "data parallel"))
    return [
        f"After {options.steps} steps the parameters of every rank are at most {exact:.0e} from those of one process by "
        f"derivatives that round once, and at most {largest:.0e} by differences ({farthest}), which divide a rounding by "
        f"their step; between ranks they differ by {between:g}.",
        f"What a rank sends is the formula and headers, {over:.1%} more at most; factors take {factors:.2f} of what the "
        "gradient takes.",
        f"{ranks} ranks find a gradient by differences {faster[1]:.2f} times as fast as one (quartiles {faster[0]:.2f} to "
        f"{faster[2]:.2f}); a step of data_parallel takes {slower[1]:.2f} of the time of DistributedDataParallel's "
        f"({slower[0]:.2f} to {slower[2]:.2f}).",
        f"Of a run that loses a rank the other says that {life['named']}, and all end within {life['seconds']:.0f} s of "
        f"their start. Its checkpoint has {life['steps kept']} steps; one rank goes on to {life['steps']}, and is "
        f"{life['from one process']:.0e} from a run of one process.",
    ]
