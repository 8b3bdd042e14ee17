"""Values of a record in words: what they are, as a reader would write them."""

from typing import Any

import torch
from torch import Tensor

from ..tape import Node, Ref, Tape

LONGEST = 90  # characters of an expression; what is longer is told by its last operation
SILENT = (
    *("clone", "alias", "detach", "expand", "view", "_unsafe_view", "unsqueeze", "squeeze", "_to_copy", "lift_fresh"),
    *("expand_copy", "view_copy", "unsqueeze_copy", "alias_copy", "detach_copy", "squeeze_copy", "contiguous", "reshape"),
)
INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "mm": "@", "bmm": "@", "matmul": "@", "mv": "@", "dot": "@"}
REDUCED = {
    **{"mean": "mean", "sum": "sum", "amax": "maximum", "amin": "minimum", "linalg_vector_norm": "norm", "max": "maximum"},
    **{"prod": "product", "min": "minimum", "norm": "norm", "std": "standard deviation"},
}
CALLED = {"_softmax": "softmax", "_log_softmax": "log_softmax", "neg": "-"}


class Words:
    """The words for the values of a tape whose leaves have names."""

    def __init__(self, tape: Tape, names: tuple[str, ...]) -> None:
        """Nothing is written before it is asked for."""
        self.tape, self.names = tape, names
        self.makers = {out: node for node in tape.nodes for out in node.outs}
        self._phrases: dict[int, str] = {}

    def core(self, index: int) -> int:
        """The value itself, before it was copied, expanded or viewed."""
        while index in self.makers and self.makers[index].name in SILENT:
            index = self.makers[index].given[0]
        return index

    def expression(self, index: int, depth: int = 99) -> str:
        """Such as inputs[0] - mean(inputs[0], -1), with dots in place of what is deeper."""
        index = self.core(index)
        if index < self.tape.leaves:
            return self.names[index]
        if index not in self.makers:
            return _constant(self.tape.values[index])
        if not depth:
            return "..."
        node = self.makers[index]
        parts = [self._part(each, depth - 1) for each in node.args]
        if node.name in INFIX and len(parts) > 1:
            return f"{_bracketed(parts[0])} {INFIX[node.name]} {_bracketed(parts[1])}"
        if node.name == "rsub":
            return f"{_bracketed(parts[1])} - {_bracketed(parts[0])}"
        if node.name == "pow":
            return f"{_bracketed(parts[0])}^{parts[1]}"
        if node.name == "neg":
            return f"-{_bracketed(parts[0])}"
        if node.name in ("t", "transpose"):
            return f"{_bracketed(parts[0])}.T"
        which = f"[{node.outs.index(index)}]" if len(node.outs) > 1 else ""
        return f"{CALLED.get(node.name, node.name)}({', '.join(part for part in parts if part)}){which}"

    def _part(self, arg: Any, depth: int) -> str:
        if isinstance(arg, Ref):
            return self.expression(arg.number, depth)
        if isinstance(arg, (list, tuple)):
            return ", ".join(part for part in (self._part(each, depth) for each in arg) if part)
        if isinstance(arg, bool) or arg is None:
            return ""
        return f"{arg:g}" if isinstance(arg, (int, float)) and abs(arg) < 2**62 else ""

    def short(self, index: int) -> str:
        """The expression as deep as it is short."""
        best = "..."
        for depth in range(1, 12):
            text = self.expression(index, depth)
            if len(text) > LONGEST:
                break
            if text == best:
                return text
            best = text
        return best

    def phrase(self, index: int) -> str:
        """What it is: the mean over axis -1, the output, the product inputs[0] * inputs[1]."""
        index = self.core(index)
        if index not in self._phrases:
            self._phrases[index] = self._phrase(index)
        return self._phrases[index]

    def _phrase(self, index: int) -> str:
        if index < self.tape.leaves or index not in self.makers:
            return self.expression(index)
        node, short = self.makers[index], self.short(index)
        short = short if short != "..." else f"the result of {CALLED.get(node.name, node.name)}"
        if index in self.tape.outputs:
            return f"the output, {short}"
        if node.name in REDUCED:
            what = "variance" if self._is_variance(node) else REDUCED[node.name]
            what = "normaliser, the sum" if what == "sum" and self._divides(index) else what
            return f"the {what}{_axes(node)} ({short})"
        return short

    def operation(self, node: Node) -> str:
        """The operation by its name."""
        return {"neg": "the minus", "pow": "the power", **{k: f"the {v}" for k, v in REDUCED.items()}}.get(
            node.name, CALLED.get(node.name, node.name)
        )

    def _is_variance(self, node: Node) -> bool:
        square = self.makers.get(self.core(node.given[0]))
        if node.name != "mean" or square is None or square.name not in ("pow", "square", "mul"):
            return False
        centered = self.makers.get(self.core(square.given[0]))
        mean = self.makers.get(self.core(centered.given[1])) if centered and centered.name == "sub" else None
        return mean is not None and mean.name == "mean"

    def _divides(self, index: int) -> bool:
        return any(
            node.name == "div" and len(node.given) > 1 and self.core(node.given[1]) == index for node in self.tape.nodes
        )


def _axes(node: Node) -> str:
    axes = node.args[1] if len(node.args) > 1 else None
    if isinstance(axes, (int, float)) and node.name in ("linalg_vector_norm", "norm"):
        axes = node.args[2] if len(node.args) > 2 else None
    axes = [axes] if isinstance(axes, int) else axes
    if not axes:
        return " of all entries"
    return f" over ax{'is' if len(axes) == 1 else 'es'} {', '.join(map(str, axes))}"


def _constant(x: Tensor) -> str:
    if x.numel() == 1:
        return f"{x.item():g}"
    return f"{'the mask' if _is_mask(x) else 'a constant'} of shape {tuple(x.shape)}"


def _is_mask(x: Tensor) -> bool:
    """Whether there are but zeros and one other number in it."""
    return x.dtype == torch.bool or (0 < int((x == 0).sum()) < x.numel() and bool((x[x != 0] == x.max()).all()))


def _bracketed(text: str) -> str:
    return f"({text})" if any(f" {sign} " in _outside(text) for sign in "+-*/@") else text


def _outside(text: str) -> str:
    """The text without what stands in brackets."""
    depth, kept = 0, ""
    for letter in text:
        depth += letter in "(["
        kept += letter if not depth else ""
        depth -= letter in ")]"
    return kept
