rule tables:
    input:
        [
            file
            for system in dict.fromkeys(RUNS[run][0] for run in TABLED)
            for file in score_files(system)
        ],
        [published_score(row.samples) for row in EXPERIMENT.tables.rows if row.samples],
        FLOOR,
        [
            manifest(paths.sample(run, EXPERIMENT.tables.picture))
            for run in TABLED
            if EXPERIMENT.tables.picture in TABLED[run]
        ],
    output:
        [str(paths.table("table1", suffix)) for suffix in ("csv", "md", "tex")],
        str(paths.figure("samples")),
    log:
        "logs/tables.log",
    params:
        values=EXPERIMENT.tables.model_dump(),
        published=PARAMS.with_name("published.csv").read_text(),
        code=code_digest("tables"),
    message:
        "table 1"
    shell:
        "rdm tables > {log} 2>&1"
