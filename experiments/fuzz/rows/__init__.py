"""The calls, a row or more for every public name: the first word of a row is the name that it calls."""

from experiments.fuzz.rows import checks, files, layers, losses, networks, objectives, optimizers, ranks, records, trainings

CALLS = {
    name: row
    for table in (layers, networks, losses, objectives, optimizers, trainings, checks, files, ranks, records)
    for name, row in table.ROWS.items()
}
