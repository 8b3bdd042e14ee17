"""Causes in words: what a report may call a mistake, as patterns for its cause and its sentence.

A bug lists those of these keys that are true of it. The words are those of the mistake and not of the checker: whoever says
"the mean is held constant" or "a path is missing" of a layer norm without its statistics has named it. They were
written from the descriptions of the bugs, not from reports.
"""

import re

WORDS = {
    "term": r"constant|path|\bterm|summand|statistic|detach|left out|omitted|dropped|projection|incomplete|"
    r"does not depend|normaliser|carried|contribution",
    "mean": r"mean|centr|center|projection|average",
    "projection": r"projection|projected|inner product|component|orthogonal",
    "factor": r"(?<!best )factor|times the|scale[ds]?\b|multipl|divid|normalis",
    "count": r"factor N|averag|\bmean\b|1 ?/ ?n|number of|count|\bsize",
    "sign": r"\bsign|negat|minus",
    "zero": r"\bzero|it is 0|detach|not passed|no gradient|\bnone\b|never reaches|held constant",
    "axis": r"\baxis|\baxes|dimension|\bdim\b|transpos|broadcast|reduction",
    "transposed": r"transpos",
    "exchanged": r"exchang|swap|of the other|one another|permut",
    "order": r"permut|other places|\border|regroup|tile|repeat|revers|layout|interleav|reshap",
    "direction": r"direction|revers|flip|same end|from the (start|end)|opposite|mirror",
    "shift": r"shift|off by|\broll|neighbo|displac|moved by|one off|permut",
    "border": r"border|tail|\blast\b|\bfirst (row|col|step|entries)|edge|not written|(single|only) (row|column|entry)|slice",
    "part": r"half|slice|block|part of|some entries|single (row|column|entry)|only (row|column)|region|channel",
    "mask": r"mask|kept|padding|only where",
    "branch": r"branch|region|threshold|beyond|where .*(<|>)|clamp|saturat|\bside|piece|bound|clip|outside",
    "precision": r"precision|float32|bfloat16|float16|\bround|half precision|digits|\bbits",
    "upstream": r"upstream|cotangent|linear in|\bu is (ignored|taken)|taken to be (1\b|ones)",
    "overwritten": r"overwr|alias|writes into|mutat|buffer|in place(?! of)",
    "elsewhere": r"evaluated|taken at|at (its|the) output|another point|elsewhere|wrong (point|tensor)|slope (at|of)\b",
    "replaced": r"in place of (its|the|x|y|u|h|c|w|q|k|v)\b|instead of|confus|wrong (operand|tensor|input)|"
    r"of another|used for",
    "slope": r"derivative .*(missing|left out)|slope|straight",
    "repeats": r"repeat|duplicate|last write|accumul|added up|adds? up|same index|collision|overwr|\bwins|same place",
    "twice": r"twice|squared|once too|again|power|double",
    "once": r"squared|once|forgotten|without|lacks|missing factor|factor (?!2).*missing",
    "row": r"single (row|column)|\brow|column|sample",
    "nan": r"not finite|\bnan\b|infinite",
    "strides": r"stride|contiguous|layout",
    "stale": r"stale|last (one|call|forward)|another forward|earlier call|previous|\bstate\b|buffer|cache",
    "repeated": r"determin|two calls|second (call|backward|time)|called again|repeat|accumul",
    "none": r"\bnone\b|no gradient|missing gradient|\bzero|it is 0|detach",
    "needs": r"needs_input_grad|subset|asked for|alone|requires",
    "dtype": r"dtype|precision|float32|float64",
    "shape": r"shape|summed",
    "undefined": r"undefined|\bnone\b|materiali|unused|upstream|output",
    "output": r"output|upstream|cotangent",
    "constant": r"epsilon|\beps\b|constant|offset",
}


def named(said: str, causes: str) -> bool:
    """Whether one of the causes is among what was said."""
    return any(re.search(WORDS[cause], said, flags=re.IGNORECASE) for cause in causes.split())
