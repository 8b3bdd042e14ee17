"""Why a check objects to an operator, found without asking the check: a list of explanations, the first that holds.

Each is a test of its own on what the witnesses say. What is not explained is called so.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from experiments.torch_operators.cancelled import lost, nothing
from experiments.torch_operators.cases import Case
from experiments.torch_operators.structures import distinct, structures, symmetric
from experiments.torch_operators.witnesses import Scene, Testimony, copies

FAR = 1e-6  # a distance between witnesses, relative and beyond all doubt, that is a disagreement
LOW = (torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex32)


class Kind(NamedTuple):
    """A kind of explanation, and whether an objection for it is right."""

    words: str
    right: bool


KINDS = {
    "undefined": Kind("the value is not finite there", True),
    "random": Kind("it draws random numbers, and torch calls its derivative 0", True),
    "cast": Kind("it casts to a lower precision inside", True),
    "structure": Kind("right only where the input keeps its structure", True),
    "collision": Kind("indices collide: which one is written is not defined", True),
    "backward": Kind("torch's backward is wrong", True),
    "kink": Kind("there is a kink", False),
    "staircase": Kind("it is a staircase: the gradient is 0, and right", False),
    "rounding": Kind("the gradient is 0 or next to nothing: rounding is compared with rounding", False),
    "forward mode": Kind("torch's forward mode is wrong, and the backward right", False),
    "vmap": Kind("torch's vmap is wrong, and the backward right", False),
    "unexplained": Kind("not explained", False),
}


class Explanation(NamedTuple):
    """The kind, what shows it, and how far backward and forward mode are from the differences (None: not measured)."""

    kind: str
    evidence: str
    backward_off: float | None = None
    forward_off: float | None = None


class Watch(TorchDispatchMode):
    """Notes which kernels run that draw random numbers, and which return a lower precision."""

    def __init__(self) -> None:
        """Nothing seen yet."""
        super().__init__()
        self.seeded: list[str] = []
        self.low: list[tuple[str, torch.dtype]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs it."""
        result = func(*args, **(kwargs or {}))
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.seeded.append(str(func))
        if isinstance(result, Tensor) and result.dtype in LOW:
            self.low.append((str(func), result.dtype))
        return result


def explain(case: Case, objects: list[str]) -> Explanation:
    """Explains objections to leaves such as inputs[0], and to trials such as adjoint."""
    with Watch() as watch:
        y = case.f(*copies(case.inputs))
    if not y.isfinite().all():
        return Explanation("undefined", f"{int((~y.isfinite()).sum())} of {y.numel()} numbers of the output are not finite")
    scene = Scene(case)
    found = scene.testify()
    pushed = [t.distance(t.forward) for t in found if t.forward is not None]
    off = max(t.distance(t.backward) for t in found), max(pushed, default=None)
    wrong = [t for t in found if not t.backward_off <= FAR]
    for kind, test in (WRONG if wrong else RIGHT).items():
        evidence = test(scene, watch, wrong or found, objects)
        if evidence:
            return Explanation(kind, evidence, *off)
    return Explanation("unexplained", f"the backward is {off[0]:.1e} from the differences", *off)


def random(scene: Scene, watch: Watch, wrong: list[Testimony], objects: list[str]) -> str:
    """Whether it draws random numbers; the database seeds the generator before each call."""
    return f"it runs {watch.seeded[0]}" if watch.seeded else ""


def cast(scene: Scene, watch: Watch, wrong: list[Testimony], objects: list[str]) -> str:
    """Whether a lower precision is seen inside, and over steps that are long beside its spacing the backward is right."""
    if not watch.low:
        return ""
    kernel, dtype = watch.low[0]
    eps, misses = torch.finfo(dtype).eps, []
    for t in wrong:
        h = 2.0**2
        x = scene.case.inputs[t.position]
        rise = scene.value(t.position, x + h * t.v) - scene.value(t.position, x - h * t.v)
        misses.append(abs(rise / (2 * h) - t.backward) - 4 * scene.noise * eps / torch.finfo(x.dtype).eps / h - eps * t.size)
    coarse = "over steps of 4 the backward is right" if max(misses) <= 0 else ""
    return coarse and f"{kernel} returns {str(dtype).removeprefix('torch.')}, and {coarse}"


def structure(scene: Scene, watch: Watch, wrong: list[Testimony], objects: list[str]) -> str:
    """Whether every input with a wrong gradient has a structure, such as symmetry, and it is right where that is kept."""
    found = []
    for i in dict.fromkeys(t.position for t in wrong):
        names = (
            f"input {i} {words}, and along what keeps it so the backward is right"
            for words, here, onto in structured(scene, i)
            if agree(here.testify(onto, (i,)))
        )
        found.append(next(names, ""))
    return "; ".join(found) if all(found) else ""


def structured(scene: Scene, i: int) -> Iterator[tuple[str, Scene, Callable[[Tensor], Tensor]]]:
    """The structures of an input, or of the matrices that it stands for where f reads one triangle of it alone."""
    x = scene.case.inputs[i]
    yield from ((f"is {name}", scene, onto) for name, onto in structures(x))
    if x.ndim > 1 and x.shape[-1] == x.shape[-2] > 1:
        for name, half in (("lower", torch.tril), ("upper", torch.triu)):
            whole = half(x) + half(x).mT - torch.diag_embed(x.diagonal(dim1=-2, dim2=-1))
            inputs = (*scene.case.inputs[:i], whole, *scene.case.inputs[i + 1 :])
            there = Scene(scene.case._replace(inputs=inputs), scene.u)
            if torch.equal(there.y, scene.y):
                yield f"stands for a symmetric matrix by its {name} triangle", there, symmetric


def collision(scene: Scene, watch: Watch, wrong: list[Testimony], objects: list[str]) -> str:
    """Whether indices repeat, and with others that do not the backward is right."""
    bound = scene.case.bound
    for changed in range(len(bound)):
        index = bound[changed]
        repeats = index.numel() - len(index.unique())
        for other in distinct(index) if repeats else ():
            try:
                elsewhere = Scene(scene.case, bound=(*bound[:changed], other, *bound[changed + 1 :]))
                if elsewhere.y.shape == scene.y.shape and agree(elsewhere.testify()):
                    return f"{repeats} of {index.numel()} indices repeat, and with distinct ones the backward is right"
            except (RuntimeError, IndexError):
                continue
    return ""


def kink(scene: Scene, watch: Watch, wrong: list[Testimony], objects: list[str]) -> str:
    """Whether wherever it is wrong the slopes from the two sides differ, and the backward is between them."""
    for t in wrong:
        right, left = (scene.slope(t.position, t.v, sides) for sides in ((1.0, 0.0), (0.0, -1.0)))
        apart = abs(right.value - left.value)
        between = min(right.value, left.value) - 1e-6 * t.size <= t.backward <= max(right.value, left.value) + 1e-6 * t.size
        if not (between and apart > 1e-3 * t.size and right.doubt + left.doubt < 0.1 * apart):
            return ""
    return "the slopes from the two sides differ, and the backward is between them"


def backward(scene: Scene, watch: Watch, wrong: list[Testimony], objects: list[str]) -> str:
    """Whether the differences are sure of themselves."""
    if any(not t.differences.doubt <= 1e-3 * max(t.size, abs(t.differences.value)) for t in wrong):
        return ""
    forward = [t for t in wrong if t.forward is not None]
    sides = "with the differences" if all(t.forward_off <= FAR for t in forward) else "with neither"
    where = ", ".join(dict.fromkeys(f"input {t.position}" for t in wrong))
    return f"{where} is off by {max(t.backward_off for t in wrong):.1e}" + (
        f"; forward mode sides {sides}" if forward else ""
    )


def staircase(scene: Scene, watch: Watch, found: list[Testimony], objects: list[str]) -> str:
    """Whether the values do not move at all over small steps, and do over large ones."""
    for t in found:
        x, steps = scene.case.inputs[t.position], (1e-9, 1e-7, 1e-5)
        level = scene.value(t.position, x)
        moved = [scene.value(t.position, x + h * t.v) != level for h in steps]
        if any(moved) or t.backward or scene.value(t.position, x + t.v) == level:
            return ""
    return "steps of 1e-9 to 1e-5 change no bit of the value, and a step of 1 does"


def rounding(scene: Scene, watch: Watch, found: list[Testimony], objects: list[str]) -> str:
    """Whether the gradients that are objected to, or that no difference confirms, are lost in rounding."""
    unsure = {t.position for t in found if not t.backward_off <= FAR}
    blamed = unsure or {i for i in range(len(scene.case.inputs)) if f"inputs[{i}]" in objects}
    cotangents = (scene.u, torch.ones_like(scene.u)) if "expanded" in objects else (scene.u,)
    words = [lost(Scene(scene.case, u), i) for u in cotangents for i in blamed or range(len(scene.case.inputs))]
    if any(abs(t.differences.value) > nothing(scene, t.position) for t in found if t.position in unsure):
        return ""
    return next(filter(None, words), "") if all(words) or not blamed else ""


def forward_mode(scene: Scene, watch: Watch, found: list[Testimony], objects: list[str]) -> str:
    """Whether forward mode is far from the differences, which agree with the backward."""
    off = [t for t in found if not t.forward_off <= FAR]
    if not off:
        return ""
    first = off[0]
    return f"the differences say {first.differences.value:.6g} and the backward too, forward mode says {first.forward:.6g}"


def vmap(scene: Scene, watch: Watch, found: list[Testimony], objects: list[str]) -> str:
    """Whether two values of f under vmap are others than one by one."""
    for t in found:
        x = scene.case.inputs[t.position]
        points = torch.stack([x, x + t.v])

        def value(z: Tensor, i: int = t.position) -> Tensor:
            inputs = copies(scene.case.inputs)
            return (scene.u * scene.f(*inputs[:i], z, *inputs[i + 1 :])).sum()

        try:
            together = torch.func.vmap(value)(points)
        except (RuntimeError, ValueError, TypeError):
            continue
        alone = torch.stack([value(z.clone()) for z in points])
        if (together - alone).abs().max() > 1e-9 * alone.abs().max():
            return f"at two values of input {t.position} f is {alone.tolist()}, under vmap {together.tolist()}"
    return ""


def elsewhere(scene: Scene, watch: Watch, found: list[Testimony], objects: list[str]) -> str:
    """Whether the backward is wrong at a thousandth or a thousand times an input, where the check objects to no more."""
    inputs = scene.case.inputs
    moved = ((i, factor) for i in range(len(inputs)) for factor in (1e-3, 1e3) if objects == ["elsewhere"])
    for i, factor in moved:
        there = Scene(scene.case._replace(inputs=(*inputs[:i], factor * inputs[i], *inputs[i + 1 :])), scene.u)
        wrong = [t for t in there.testify() if not t.backward_off <= FAR]
        evidence = wrong and backward(there, watch, wrong, objects)
        if evidence:
            return f"with input {i} times {factor:g}, {evidence}"
    return ""


def agree(found: list[Testimony]) -> bool:
    """Whether the backward is where the differences are."""
    return all(t.backward_off <= FAR and math.isfinite(t.differences.value) for t in found)


Test = Callable[[Scene, Watch, list[Testimony], list[str]], str]
WRONG: dict[str, Test] = {
    "random": random,
    "cast": cast,
    "structure": structure,
    "collision": collision,
    "kink": kink,
    "rounding": rounding,
    "backward": backward,
}
RIGHT: dict[str, Test] = {
    "cast": cast,
    "staircase": staircase,
    "forward mode": forward_mode,
    "vmap": vmap,
    "rounding": rounding,
    "backward": elsewhere,
}
