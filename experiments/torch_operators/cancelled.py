"""Gradients of which rounding has left nothing: sums whose terms cancel, or inputs whose last digits decide."""

import torch
from torch import Tensor

from experiments.torch_operators.witnesses import Scene

NOTHING = 1e-7  # a gradient as small as this beside |u| |y| / |x| is lost in rounding
LAST = 2.0**-50  # a relative change in the last digits


def lost(scene: Scene, i: int) -> str:
    """Whether a gradient is next to nothing, or another one where inputs differ in the last digit."""
    g, x = scene.gradients[i], scene.case.inputs[i]
    if g.norm() <= nothing(scene, i):
        return f"|g| is {g.norm().item() / max(natural(scene, x), 1e-300):.0e} of |u| |y| / |x|"
    inputs = tuple(x * (1 + LAST * torch.rand(x.shape, generator=scene.generator).to(x)) for x in scene.case.inputs)
    moved = Scene(scene.case._replace(inputs=inputs), scene.u).gradients[i]
    change = ((moved - g).norm() / g.norm()).item()
    return f"inputs that differ in the last digit change it by {change:.0%}" if change > 0.01 else ""


def nothing(scene: Scene, i: int) -> float:
    """The size below which a gradient is lost in rounding: some inputs are in float32, whatever is asked for."""
    x = scene.case.inputs[i]
    return max(NOTHING, 10 * torch.finfo(x.dtype).eps) * natural(scene, x)


def natural(scene: Scene, x: Tensor) -> float:
    """The size |u| |y| / |x| of a gradient in which nothing cancels; x is taken to be 1 at least."""
    return (scene.u.norm() * scene.y.norm() / x.norm().clamp(min=1)).item()
