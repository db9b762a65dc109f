PICTURES = {"table1": "samples", "table2": "clips"}


def table_inputs(table):
    """The scores of every row, of controls and floors, and the samples in the picture."""
    systems = EXPERIMENT.shown_systems(table)
    sets = dict.fromkeys(
        cell.samples for cell in EXPERIMENT.cells(table) if cell.samples
    )
    return [
        *[file for system in systems for file in score_files(system)],
        *[file for name in sets for file in published_scores(name)],
        *[floor_file(score) for score in EXPERIMENT.scores_in(table)],
        *[
            manifest(paths.sample(run, sampler))
            for run in runs_of(systems)
            for sampler in SAMPLED[run]
        ],
    ]


for table_ in PICTURES:
    if getattr(EXPERIMENT.tables, table_) is None:
        continue

    rule:
        name:
            table_
        input:
            table_inputs(table_),
        output:
            [str(paths.table(table_, suffix)) for suffix in ("csv", "md", "tex")],
            str(paths.figure(PICTURES[table_])),
        log:
            f"logs/{table_}.log",
        benchmark:
            f"logs/{table_}.tsv"
        params:
            table=table_,
            values=[EXPERIMENT.tables.model_dump(), list(EXPERIMENT.seeds)],
            published=PARAMS.with_name("published.csv").read_text(),
            code=code_digest("tables"),
        message:
            f"table {table_[-1]}"
        shell:
            "rdm tables {params.table} > {log} 2>&1"
