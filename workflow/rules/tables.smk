for table_ in graph.targets(EXPERIMENT):
    if table_ not in graph.PICTURES:
        continue
    job_ = graph.table(EXPERIMENT, table_)

    rule:
        name:
            table_
        input:
            files(job_.reads),
        output:
            in_report(files(job_.makes)),
        log:
            f"logs/{table_}.log",
        benchmark:
            f"logs/{table_}.tsv"
        params:
            table=table_,
            values=[EXPERIMENT.tables.model_dump(), list(EXPERIMENT.seeds)],
            published=file_digest(PARAMS.with_name("published.csv")),
            code=code_digest("tables"),
        message:
            f"table {table_[-1]}"
        shell:
            "rdm tables {params.table} > {log} 2>&1"
