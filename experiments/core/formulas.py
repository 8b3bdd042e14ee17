"""Formulas in texts: written as one types them, between dollar signs, and typeset as MathML, which browsers draw themselves.

    $f(x, y) = 3 x^3 - y^2$     powers and indices by ^ and _; X[n,d] is an entry; a script of several signs in parentheses
    $(k - 1)/(k + 1)$           a fraction; its parentheses go
    $e^x / sqrt(sin x + 1)$     with spaces about the slash, a fraction of the whole products on both sides
    $dL/dW$, $rho$, $sum_i$     differentials, Greek letters and signs by their names; other words stay words

On a terminal the same text is read without its dollar signs. A formula that ends too early, or holds other signs, is
typeset as far as it goes.
"""

import re
from typing import NamedTuple

from markupsafe import Markup, escape

FORMULA = re.compile(r"\$([^$]+)\$")
ENTRY = re.compile(r"(?<=[A-Za-z])\[([^]]*)\]")  # X[n,d] is X_(n,d)
TOKEN = re.compile(r"\s/\s|\d+(?:\.\d+)?(?:e-?\d+)?|[A-Za-z]+|[<>!]=|\S")
GREEK = dict(zip(("alpha", "beta", "gamma", "epsilon", "lambda", "mu", "pi", "rho", "sigma"), "αβγελμπρσ", strict=True))
SIGNS = {"-": "−", "*": "·", "<=": "≤", ">=": "≥", "!=": "≠"}
BETWEEN = {"+", "=", "<", ">", ",", ";", ":", *SIGNS}  # these end a product
FENCES = {"(": ")", "[": "]", "|": "|"}


def plain(text: str) -> str:
    """The text as it is read on a terminal."""
    return FORMULA.sub(r"\1", text)


def typeset(text: object) -> Markup:
    """The text as HTML, its formulas as MathML."""
    pieces = FORMULA.split(str(text))  # in turns a text and a formula
    return Markup("").join(mathml(piece) if index % 2 else escape(piece) for index, piece in enumerate(pieces))


def mathml(formula: str) -> Markup:
    """One formula as a <math> element."""
    return Markup(f"<math>{_Reader(formula).row(())}</math>")


class _Piece(NamedTuple):
    """A part of a product: as it stands there, as it stands where nothing else does, and whether it is a word."""

    whole: str
    bare: str
    word: bool = False


class _Reader:
    """Reads a formula from left to right, a method for each level: row, product, quotient, scripts, atom."""

    def __init__(self, formula: str) -> None:
        self.tokens = TOKEN.findall(ENTRY.sub(r"_(\1)", formula))[::-1]

    def next(self) -> str:
        """The token that comes next, and nothing at the end."""
        return self.tokens[-1] if self.tokens else ""

    def row(self, ends: tuple[str, ...]) -> str:
        """Products and the signs between them, up to one of the ends."""
        found = []
        while self.next() and self.next() not in ends:
            found.append(self.sign() if self.next() in BETWEEN else self.product(ends))
        return "".join(found)

    def sign(self) -> str:
        """One sign."""
        token = self.tokens.pop()
        return _element("mo", escape(SIGNS.get(token, token)))

    def product(self, ends: tuple[str, ...]) -> str:
        """Factors side by side; a slash between spaces divides all of them by all that follow."""
        above = self.factors(ends)
        if not self.next().startswith(" "):
            return _joined(above)
        self.tokens.pop()
        return _element("mfrac", _alone(above), _alone(self.factors(ends)))

    def factors(self, ends: tuple[str, ...]) -> list[_Piece]:
        """What is multiplied, up to a sign, a slash between spaces, or one of the ends."""
        found = []
        while self.next() and self.next() not in {*ends, *BETWEEN} and not self.next().startswith(" "):
            found.append(self.quotient())
        return found

    def quotient(self) -> _Piece:
        """One factor, divided by those behind a slash without spaces."""
        found = self.scripts()
        while self.next() == "/":
            self.tokens.pop()
            fraction = _element("mfrac", _element("mrow", found.bare), _element("mrow", self.scripts().bare))
            found = _Piece(fraction, fraction)
        return found

    def scripts(self) -> _Piece:
        """An atom with what stands below and above it."""
        found, scripts = self.atom(), {"_": "", "^": ""}
        while self.next() and self.next() in "_^'":
            mark = self.tokens.pop()
            if mark == "'":
                scripts["^"] += _element("mo", "′")
            else:
                scripts[mark] += (self.sign() if self.next() == "-" else "") + self.atom().bare
        below, above = (_element("mrow", script) for script in scripts.values())
        if scripts["_"] and scripts["^"]:
            whole = _element("msubsup", found.whole, below, above)
        elif scripts["_"] or scripts["^"]:
            whole = _element("msub", found.whole, below) if scripts["_"] else _element("msup", found.whole, above)
        else:
            return found
        return _Piece(whole, whole, found.word)

    def atom(self) -> _Piece:
        """A number, a name, a root, or a row in parentheses or bars."""
        token = self.tokens.pop() if self.tokens else ""
        if token in FENCES:
            inside = self.row((FENCES[token],))
            closing = self.tokens.pop() if self.tokens else ""
            whole = _element("mrow", _element("mo", token), inside, _element("mo", closing))
            return _Piece(whole, inside if token == "(" else whole)
        if token == "sqrt":
            root = _element("msqrt", self.scripts().bare)
            return _Piece(root, root)
        if token[:1].isdigit():
            digits, _, power = token.partition("e")
            number = _element("mn", digits)
            if power:
                ten = _element("msup", _element("mn", "10"), _element("mn", power.replace("-", "−")))
                number = ten if digits == "1" else _element("mrow", number, _element("mo", "·"), ten)
            return _Piece(number, number)
        if token == "sum":
            return _Piece(*[_element("mo", "∑")] * 2)
        if len(token) == 2 and token[0] == "d":
            return _Piece(*[_element("mrow", _element("mi", "d"), _element("mi", token[1]))] * 2)
        name = _element("mi" if token.isalpha() else "mo", escape(GREEK.get(token, token)))
        return _Piece(name, name, token.isalpha() and len(token) > 1 and token not in GREEK)


def _joined(factors: list[_Piece]) -> str:
    """Factors in a row, with a little space about words."""
    found = [factor.whole for factor in factors[:1]]
    for before, after in zip(factors, factors[1:], strict=False):
        apart = after.word or (before.word and not after.whole.startswith("<mrow><mo>("))
        found += ['<mspace width="0.25em"></mspace>' * apart, after.whole]
    return "".join(found)


def _alone(factors: list[_Piece]) -> str:
    """One side of a fraction, where a single factor in parentheses stands without them."""
    return _element("mrow", factors[0].bare if len(factors) == 1 else _joined(factors))


def _element(tag: str, *children: str) -> str:
    return f"<{tag}>{''.join(children)}</{tag}>"
