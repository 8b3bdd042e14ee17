"""How the real mistakes are shown: a table of what hid them and what ours says, a figure of who finds which."""

from collections.abc import Iterable
from typing import Any

from experiments.bugs.presentation import listed, of
from experiments.core.result import Table
from experiments.wild.case import Case
from experiments.wild.trials import OURS, Trial
from funcnn.plots import COLORS, figure

MARKS = {
    "detected": ("o", COLORS[0], "found"),
    "passed": ("x", COLORS[1], "not found"),
    "refused": ("s", COLORS[6], "fails with another error"),
}


def share(trials: Iterable[Trial]) -> str:
    """How many of them are findings."""
    found = [trial.found for trial in trials]
    return of((sum(found), len(found)))


def by_checker(trials: Iterable[Trial]) -> dict[str, list[Trial]]:
    """The trials of each checker, in order."""
    sorted_out: dict[str, list[Trial]] = {}
    for trial in trials:
        sorted_out.setdefault(trial.checker, []).append(trial)
    return sorted_out


def shares(trials: Iterable[Trial]) -> str:
    """The findings of each checker."""
    return "; ".join(f"{checker} {share(own)}" for checker, own in by_checker(trials).items()) or "none looked at"


def at(point: str, trials: list[Trial]) -> list[Trial]:
    """What was said of the wrong rules at a point."""
    return [trial for trial in trials if trial.rule == "wrong" and trial.point == point]


def table(cases: list[Case], trials: list[Trial]) -> Table:
    """A row for each mistake."""
    rows = []
    for case in cases:
        ordinary, authors = ([t for t in at(place, trials) if t.case == case.name] for place in ("ordinary", "author's"))
        ours = next(trial for trial in ordinary if trial.checker == OURS)
        told = f"{case.source}: {case.function}", case.mistake, case.hid
        rows.append([*told, _outcome(authors), _outcome(ordinary), ours.naming or "-", "; ".join(ours.said) or "-"])
    heads = ["source", "mistake", "how it hid", "author's point", "ordinary point", "by its cause", f"what {OURS} says"]
    return Table("Mistakes of real projects: where they hid, who finds them, and what is said of them", heads, rows)


def _outcome(trials: list[Trial]) -> str:
    if not trials:
        return "-"
    missed = [trial.checker for trial in trials if not trial.found]
    if not missed:
        return "found by all"
    return "found by none" if len(missed) == len(trials) else f"found by all but {', '.join(missed)}"


def observations(cases: list[Case], trials: list[Trial], missing: list[str]) -> list[str]:
    """Who finds what and where, what is called wrong in vain, and what ours names."""
    ordinary, authors = at("ordinary", trials), at("author's", trials)
    right = [trial for trial in trials if trial.rule == "right"]
    overlooked = {
        checker: [t.case + " (fails with another error)" * (t.verdict == "refused") for t in own if not t.found]
        for checker, own in by_checker(ordinary).items()
    }
    alarms = [f"{t.case} ({t.checker})" for t in right if t.verdict in ("detected", "refused")]
    mine = by_checker(ordinary)[OURS]
    causes = {trial.case: ", ".join(sentence.partition(":")[0] for sentence in trial.said) for trial in mine}
    named, misnamed, unnamed = ([t for t in mine if t.naming == how] for how in ("named right", "misnamed", "not named"))
    lines = [
        f"At an ordinary point the {len(cases)} mistakes are found so: {shares(ordinary)}.",
        f"Not found there: {'. '.join(f'{checker}: {listed(names)}' for checker, names in overlooked.items())}.",
        f"At the author's own point, where the wrong rule gives the right gradient: {shares(authors)}.",
        f"Right rules that are called wrong, those among them that were reported in vain: {shares(right)}. "
        f"Objections and failures: {listed(alarms)}.",
        f"{OURS} names a true cause of {len(named)} of the {sum(trial.found for trial in mine)} mistakes that it finds, and "
        f"another beside it in {sum(len(trial.said) > 1 for trial in named)}. "
        f"Misnamed: {listed([f'{trial.case} ({causes[trial.case]})' for trial in misnamed])}. "
        f"Not named: {listed([trial.case for trial in unnamed])}.",
    ]
    return lines + ([f"Not installed, and so not measured: {', '.join(missing)}."] if missing else [])


def draw(cases: list[Case], trials: list[Trial]) -> tuple[Any, str]:
    """A row for each mistake, a column for each checker, at an ordinary point and at the author's own."""
    names = [case.name for case in cases]
    drawing, (left, right) = figure(2, width=12.0, height=2.0 + 0.27 * len(names))
    for axis, place, about in ((left, "ordinary", "an ordinary point"), (right, "author's", "the author's own point")):
        _matrix(axis, names, by_checker(trials), at(place, trials))
        axis.set_xlabel(f"at {about}")
    left.set_yticks(range(len(names)), names, fontsize="small")
    right.grid(False)
    namings = {trial.case: trial.naming for trial in at("ordinary", trials) if trial.checker == OURS}
    for y, case in enumerate(cases):
        left.text(1.02, y, namings[case.name], transform=left.get_yaxis_transform(), va="center", fontsize="small")
        if case.authors is None:
            right.text(-0.4, y, f"no point: {case.hid}", va="center", fontsize="small", color="#555555")
    left.text(
        1.02, -0.9, f"{OURS}, cause:", transform=left.get_yaxis_transform(), va="center", fontsize="small", style="italic"
    )
    drawing.legend(*left.get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=3)
    return drawing, "Who finds which mistake; on the right at the point where it hid, or why it was not seen at all."


def _matrix(axis: Any, names: list[str], checkers: Iterable[str], trials: list[Trial]) -> None:
    columns, own = list(checkers), by_checker(trials)
    for verdict, (mark, color, label) in MARKS.items():
        shown = [t for t in trials if (t.verdict if t.verdict in MARKS else "passed") == verdict]
        x, y = [columns.index(t.checker) for t in shown], [names.index(t.case) for t in shown]
        axis.plot(x, y, mark, color=color, label=label, markersize=8, fillstyle="none" if mark == "s" else "full")
    heads = [f"{checker}\n{share(own.get(checker, []))}" for checker in columns]
    axis.set_xticks(range(len(columns)), heads, rotation=40, ha="left", rotation_mode="anchor", fontsize="small")
    axis.set_yticks(range(len(names)), [""] * len(names))
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    axis.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(names) - 0.5, -0.5))
