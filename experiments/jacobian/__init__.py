"""Generalized Jacobians laid out in full, and why nobody does so: backpropagation contracts them without forming them."""

from dataclasses import dataclass
from typing import Any

import torch

import funcnn as fn
from experiments.core.memory import in_units
from experiments.core.options import BadOption, Options
from experiments.core.result import Result, Table
from experiments.jacobian import small, sweep

N, D, M = 4, 5, 3  # of the cases that are laid out, few enough to see every entry


@dataclass(frozen=True, kw_only=True)
class Jacobian(Options):
    """Lays out small Jacobians, checks the product formulas against them, and compares the memory of both."""

    batch: int = 64
    """Samples N where memory is measured, in float32 on the CPU whatever --dtype and --device."""
    width: int = 4096
    """The largest D = M where memory is measured."""

    def __post_init__(self) -> None:
        """Raises BadOption for sizes at which even the products would take gigabytes."""
        super().__post_init__()
        if max(self.batch, self.width) > 2**14:
            raise BadOption(f"batch, width: got {self.batch} and {self.width}, needs at most {2**14} each")


def run(options: Jacobian) -> Result:
    """The small cases with their contractions, and the memory over a sweep of sizes."""
    generator, layer = options.generator(), fn.dense(D, M)
    params = layer.init(generator, **options.tensors)
    x, dy = (torch.randn(N, size, generator=generator, dtype=torch.float64).to(**options.tensors) for size in (D, M))
    cases = small.cases(layer, params, x)
    facts = {name: case.facts() for name, case in cases.items()}
    products = small.products(layer, params, x, dy, cases)
    blocks = small.blocks(cases["dY/dX"].by_hand, params["w"])
    footprints = [sweep.footprint(options.batch, width) for width in sweep.widths(options.width)]
    return Result(
        "Jacobians: laid out, and contracted without being formed",
        "The generalized Jacobian $dy/dx$ has the shape of y followed by that of x. Small ones are laid out for a dense "
        f"layer $Y = X W + 1 b$ with N = {N}, D = {D}, M = {M}: from the hand-derived backward rule, by torch.func.jacrev, "
        f"and by formula. Then the memory of $dY/dX$ stands beside that of the product formulas, for N = {options.batch}.",
        numbers={
            "cases": facts,
            "products": products,
            "blocks": blocks,
            "bytes": [footprint._asdict() for footprint in footprints],
        },
        observations=observations(facts, products, blocks, options.batch, footprints[-1]),
        figures={"zero_pattern": small.draw(cases), "memory": sweep.draw(options.batch, footprints)},
        tables=[table(cases, facts), sweep.table(options.batch, footprints)],
    )


def observations(facts: Any, products: Any, blocks: Any, batch: int, largest: sweep.Footprint) -> list[str]:
    """What the numbers say."""
    of_x, of_w = facts["dY/dX"], facts["dY/dW"]
    return [
        f"Rows of the hand-derived backward rules, torch.func.jacrev and formulas give the same {len(facts)} derivatives, "
        f"to {max(case['difference'] for case in facts.values()):.2g}.",
        f"$dY/dX$ of shape {of_x['shape']} is zero in {of_x['zeros']:.0%} of its entries: the largest $dY[n]/dX[i]$ with "
        f"$n != i$ is {blocks['elsewhere']:.1g}, and the blocks with $n = i$ differ from $W^T$ by "
        f"{blocks['on the diagonal']:.1g}. $dY/dW$ is zero in {of_w['zeros']:.0%}.",
        f"{', '.join(f'${name}$' for name in products)} equal the contractions of $dY$ with the Jacobians, to "
        f"{max(products.values()):.2g}.",
        f"At N = {batch}, D = M = {largest.width} in float32 $dY/dX$ would take {in_units(largest.jacobian)}; the products, "
        f"measured, take {in_units(largest.products)} at their peak: {largest.jacobian / largest.products:,.0f} times less.",
    ]


def table(cases: dict[str, small.Case], facts: Any) -> Table:
    """A row for each derivative."""
    rows = [
        [
            f"${name}$",
            f"${case.formula}$",
            str(facts[name]["shape"]),
            f"{facts[name]['zeros']:.0%}",
            f"{facts[name]['difference']:.2g}",
        ]
        for name, case in cases.items()
    ]
    caption = "The gradient of $L = 1/(2 N) sum Y^2$, the Jacobian of $p = softmax(z)$, and those of $Y = X W + 1 b$"
    return Table(caption, ["derivative", "formula", "shape", "zeros", "largest difference of the three ways"], rows)
