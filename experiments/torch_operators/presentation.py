"""How the objections are shown: a table with what explains each, torch's defects with their lines, and a figure."""

from collections import Counter
from itertools import groupby
from typing import Any

from experiments.core.result import Table
from experiments.torch_operators.defects import DEFECTS
from experiments.torch_operators.explain import KINDS
from funcnn.plots import COLORS, figure

Records = list[dict[str, Any]]
MARKS = "osD^vP*Xdph<"
EXACT = 1e-12  # where witnesses that agree are drawn


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
    drawing, (bars, plane) = figure(2, width=11.0, height=4.2)
    colors = [COLORS[0] if KINDS[kind].right else COLORS[1] for kind in order]
    drawn = bars.barh(range(len(order)), [kinds[kind] for kind in order], height=0.7, color=colors)
    bars.bar_label(drawn, padding=3, fontsize="small")
    bars.set_yticks(range(len(order)), order)
    bars.invert_yaxis()
    bars.margins(x=0.12)
    bars.set(xlabel="objections (blue: rightly, orange: in vain)")
    for mark, kind in zip(MARKS, KINDS, strict=True):
        own = [r for r in objected if r["kind"] == kind and r["backward_off"] is not None]
        if own:
            x, y = ([max(EXACT, record[side]) for record in own] for side in ("backward_off", "forward_off"))
            color = COLORS[0] if KINDS[kind].right else COLORS[1]
            plane.plot(x, y, mark, color=color, alpha=0.7, label=kind, markeredgecolor="white", markeredgewidth=0.5)
    plane.set(xscale="log", yscale="log", xlim=(EXACT / 3, 10), ylim=(EXACT / 3, 10))
    plane.set(xlabel="distance of the backward from the differences", ylabel="distance of forward mode")
    if objected:
        plane.legend(frameon=False, fontsize="small", loc="center")
    return drawing, (
        "The explanations of all objections; and how far torch's backward and its forward mode are from differences, "
        "relative and beyond what differences cannot see. What is 0 is drawn at 1e-12."
    )
