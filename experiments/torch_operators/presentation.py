"""How the objections are shown: a table with what explains each, torch's defects with their lines, and a figure."""

from collections import Counter
from itertools import groupby
from typing import Any

from experiments.core.result import Table
from experiments.torch_operators.defects import DEFECTS
from experiments.torch_operators.explain import KINDS
from funcnn.plots import COLORS, figure

Records = list[dict[str, Any]]
EXACT = 1e-14  # where witnesses that agree to the bit are drawn


def objections(found: Records) -> Table:
    """A row for each operator, objection and explanation: where, what was said, why, and whether that is right."""
    columns = ["operator", "samples", "objection to", "verdict", "cause named", "explanation", "evidence", "ours is right"]
    rows = []
    for (operator, kind, where), group in groupby(filter(objects, found), key=key):
        first, *more = group
        verdicts, causes = ({said[i] for said in first["said"] if said[i]} for i in (1, 2))
        numbers = [operator, 1 + len(more), where, ", ".join(sorted(verdicts)), ", ".join(sorted(causes)) or "none"]
        rows.append([*numbers, KINDS[kind].words, first["evidence"], yes(KINDS[kind].right)])
    for record in found:
        if record["verdict"] == "raises":
            rows.append([record["operator"], 1, "", "raises", "none", "the check fails", record["why"], "no"])
    return Table("Every objection of fn.check_vjp, and what explains it", columns, rows)


def objects(record: dict[str, Any]) -> bool:
    """Whether the check objects."""
    return bool(record["verdict"] == "objects")


def key(record: dict[str, Any]) -> tuple[str, str, str]:
    """Objections that are one row."""
    return record["operator"], record["kind"], ", ".join(said[0] for said in record["said"])


def yes(right: bool) -> str:
    """A word for it."""
    return "yes" if right else "no"


def defects(shown: dict[str, Any]) -> Table:
    """Torch's defects, each with the lines that show it."""
    columns = ["the last line is what torch says, and what is right", "wrong is", "torch says", "right is"]
    rows = []
    for defect in DEFECTS:
        sides = shown[defect.operators[0]] or ["no such operator in this torch", ""]
        rows.append([defect.lines, f"the {defect.kind} of {', '.join(defect.operators)}: {defect.words}", *sides])
    return Table("Defects of torch, and how to see them", columns, rows)


def observations(found: Records, shown: dict[str, Any]) -> list[str]:
    """What it comes to, computed from the records."""
    verdicts = Counter(record["verdict"] for record in found)
    objected = [record for record in found if objects(record)]
    kinds = Counter(record["kind"] for record in objected)
    right = sum(count for kind, count in kinds.items() if KINDS[kind].right)
    judged = verdicts["ok"] + verdicts["objects"]
    operators = {record["operator"] for record in found if record["verdict"] in ("ok", "objects")}
    seconds = sum(record.get("seconds", 0.0) for record in found)
    unfit = Counter(record["why"] for record in found if record["verdict"] == "unfit")
    lines = [
        f"{judged} samples of {len(operators)} operators were checked in {seconds:.0f} s: {verdicts['ok']} are right and "
        f"{verdicts['objects']} meet an objection, {right} of them rightly, "
        f"{verdicts['objects'] - right - kinds['unexplained']} in vain, {kinds['unexplained']} unexplained."
    ]
    for wanted, word in ((True, "Rightly"), (False, "In vain")):
        told = [f"{count}, {KINDS[kind].words} ({named(objected, kind)})" for kind, count in kinds.most_common()
                if KINDS[kind].right is wanted and kind != "unexplained"]  # fmt: skip
        if told:
            lines.append(f"{word}: {'; '.join(told)}.")
    if kinds["unexplained"]:
        lines.append(f"Not explained: {named(objected, 'unexplained')}.")
    for defect in DEFECTS:
        sides = shown[defect.operators[0]]
        if sides and sides[0] != sides[1]:
            words = f"The {defect.kind} of torch is wrong for {' and '.join(defect.operators)}: {defect.words}"
            lines.append(f"{words}. In the lines below it says {sides[0]}, and right is {sides[1]}.")
    unwritten = sorted(
        {r["operator"] for r in objected if r["kind"] in ("backward", "forward mode", "vmap")}
        - {operator for defect in DEFECTS for operator in defect.operators}
    )
    if unwritten:
        lines.append(f"Torch is wrong for {', '.join(unwritten)} too; no lines that show it have been written yet.")
    for verdict, words in (("refused", "The check refuses"), ("raises", "The check itself fails with an error at")):
        if verdicts[verdict]:
            names = dict.fromkeys(record["operator"] for record in found if record["verdict"] == verdict)
            lines.append(f"{words} {verdicts[verdict]} samples: {', '.join(names)}.")
    if unfit:
        told = [f"{count} for {why}" for why, count in unfit.most_common()]
        lines.append(f"Left out as no function of real tensors with numbers in them: {'; '.join(told)}.")
    return lines


def named(objected: Records, kind: str) -> str:
    """The operators with an objection of a kind."""
    return ", ".join(dict.fromkeys(record["operator"] for record in objected if record["kind"] == kind))


def draw(found: Records) -> tuple[Any, str]:
    """How many objections each explanation has, and how far backward and forward mode are from the differences."""
    objected = [record for record in found if objects(record)]
    kinds = Counter(record["kind"] for record in objected)
    order = [kind for kind in KINDS if kinds[kind]]
    colors = [COLORS[0] if KINDS[kind].right else COLORS[1] for kind in order]
    drawing, (bars, strips) = figure(2, width=11.0, height=1.4 + 0.3 * len(order))
    drawn = bars.barh(range(len(order)), [kinds[kind] for kind in order], height=0.7, color=colors)
    bars.bar_label(drawn, padding=3, fontsize="small")
    bars.xaxis.get_major_locator().set_params(integer=True)
    bars.margins(x=0.12)
    bars.set(xlabel="objections (blue: rightly, orange: in vain)")
    for side, mark, filled, dy in (("backward", "o", True, -0.16), ("forward", "D", False, 0.16)):
        for row, (kind, color) in enumerate(zip(order, colors, strict=True)):
            x = [record[f"{side}_off"] for record in objected if record["kind"] == kind]
            shown = [max(EXACT, each) for each in x if each is not None]
            face = color if filled else "none"
            strips.plot(shown, [row + dy] * len(shown), mark, markersize=5, color=color, markerfacecolor=face, alpha=0.7)
        words = "backward" if filled else "forward mode"
        strips.plot([], [], mark, color="black", markerfacecolor="black" if filled else "none", label=words)
    strips.set(xscale="log", xlim=(EXACT / 3, 10), xlabel="relative distance from the differences")
    strips.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, 1.12), ncols=2)
    for axis in (bars, strips):
        axis.set_yticks(range(len(order)), order if axis is bars else [""] * len(order))
        axis.set_ylim(len(order) - 0.4, -0.6)
    return drawing, (
        "The objections by what explains them; and how far torch's backward and its forward mode are from differences of "
        "the values, the largest distance over all inputs. Where the gradient is next to nothing, that compares rounding "
        "with rounding. What is below 1e-14 is drawn there."
    )
