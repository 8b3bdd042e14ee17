"""How the checkers are shown: a table, a figure, and sentences that also name what ours missed."""

from typing import Any

from matplotlib.ticker import NullFormatter

from experiments.bugs.trials import TO_BE_FOUND, Row, Trial
from experiments.core.result import Table
from experiments.core.timing import Timing
from funcnn.plots import COLORS, figure


def table(shown: list[Row]) -> Table:
    """All rows."""
    columns = [
        "checker",
        "bugs found",
        "with error ≥ 1e-6",
        "bugs refused",
        "false alarms",
        "at kinks",
        "ms a bug",
    ]
    cells = [
        [r.checker, of(r.all_bugs), of(r.due), str(r.refused), of(r.smooth), of(r.kinks), f"{1e3 * r.seconds:.1f}"]
        for r in shown
    ]
    return Table("Planted bugs found, and alarms on what is correct (smooth, or standing on a kink)", columns, cells)


def of(share: tuple[int, int]) -> str:
    """A share as it is read."""
    return f"{share[0]} of {share[1]}"


def listed(names: list[str], most: int = 100) -> str:
    """The names, or none."""
    more = [f"and {len(names) - most} more"] if len(names) > most else []
    return "; ".join(names[:most] + more) or "none"


def observations(
    shown: list[Row], planted: list[Trial], right: list[Trial], timing: Timing, missing: list[str]
) -> list[str]:
    """What the rows come to, and which bugs ours missed or misnamed."""
    ours, *others = shown
    mine = [t for t in planted if t.checker == ours.checker]
    small = [t for t in mine if t.error < TO_BE_FOUND]
    meant, free = [t for t in mine if t.cause not in ("", "kink")], [t for t in mine if t.cause == ""]
    misnamed = [f"{t.name} ({t.cause}; named: {', '.join(t.causes) or 'none'})" for t in meant if not t.named]
    overnamed = [f"{t.name} ({', '.join(t.causes)})" for t in free if t.causes]
    doubled = [t for t in meant if t.named and len(t.causes) > 1]
    alarms = [t.name for t in right if t.checker == ours.checker and t.alarmed]
    ratio, low, high = timing.ratio("gradcheck, slow", "fn.check")
    lines = [
        f"Of the bugs that are wrong by 1e-6 of their leaf or more, {ours.checker} finds {of(ours.due)}; "
        f"{'; '.join(f'{r.checker} {of(r.due)}' for r in others)}.",
        f"{ours.checker} misses: {listed([t.name for t in mine if t.due and t.verdict != 'detected'])}. Of the {len(small)} "
        f"with a smaller error, which nobody is asked to find, it finds {sum(t.verdict == 'detected' for t in small)}.",
        f"On what is correct {ours.checker} raises {of(ours.smooth)} false alarms, and {of(ours.kinks)} on a kink: "
        f"{listed(alarms, 6)}. At kinks, {'; '.join(f'{r.checker} alarms at {of(r.kinks)}' for r in others)}.",
        f"It names the planted class of {len(meant) - len(misnamed)} of {len(meant)} bugs that it has a hypothesis for. "
        f"Misnamed: {listed(misnamed)}. Beside the planted class it names another one in {len(doubled)}.",
        f"Of {len(free)} bugs that no hypothesis is meant for, {len(overnamed)} fit one all the same: {listed(overnamed)}.",
        *(
            f"{t.name}: the verdict is {t.verdict!r}. Every slope from 0 to 1 is right there."
            for t in mine
            if t.cause == "kink"
        ),
        f"On 2,410 parameters fn.check takes {1e3 * timing.seconds('fn.check'):.1f} ms and gradcheck's slow mode "
        f"{timing.seconds('gradcheck, slow'):.2f} s: {ratio:.0f} times as long (quartiles {low:.0f} to {high:.0f}).",
    ]
    return lines + ([f"Not installed, and so not measured: {', '.join(missing)}."] if missing else [])


def draw(shown: list[Row]) -> tuple[Any, str]:
    """Bugs found, false alarms and time, a bar for each checker."""
    drawing, (found, alarms, times) = figure(3, height=3.0)
    y = range(len(shown))
    for axis, offset, height, color, label, shares in (
        (found, 0.0, 0.7, COLORS[0], "", [r.due for r in shown]),
        (alarms, -0.2, 0.38, COLORS[1], "smooth", [r.smooth for r in shown]),
        (alarms, 0.2, 0.38, COLORS[4], "on a kink", [r.kinks for r in shown]),
    ):
        percent = [100 * some / max(1, total) for some, total in shares]
        bars = axis.barh([i + offset for i in y], percent, height=height, color=color, label=label)
        axis.bar_label(bars, [of(share) for share in shares], padding=3, fontsize="small")
        axis.set(xlim=(0, 135), xticks=range(0, 101, 25))
    bars = times.barh(y, [1e3 * r.seconds for r in shown], height=0.7, color=COLORS[2])
    times.bar_label(bars, [f"{1e3 * r.seconds:.1f}" for r in shown], padding=3, fontsize="small")
    times.set(xscale="log", xlabel="median time of a check (ms)")
    times.xaxis.set_minor_formatter(NullFormatter())
    times.margins(x=0.2)
    found.set(xlabel="bugs found, of those with error ≥ 1e-6 (%)")
    alarms.set(xlabel="false alarms (%)")
    alarms.legend(frameon=False, fontsize="small")
    for axis in (found, alarms, times):
        axis.set_yticks(y, [r.checker for r in shown] if axis is found else [""] * len(shown))
        axis.invert_yaxis()
    return drawing, "Planted bugs found, alarms on what is correct, and the time of a check, for each checker."
