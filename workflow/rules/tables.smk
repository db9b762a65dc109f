CLAIMS = PARAMS.with_name("claims.yaml")

for table_ in graph.targets(EXPERIMENT):
    job_ = graph.target(EXPERIMENT, table_)
    if job_.verb != "tables" or (table_ == "claims" and not CLAIMS.is_file()):
        continue

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
            values=[
                EXPERIMENT.tables.model_dump(),
                list(EXPERIMENT.seeds),
                *([EXPERIMENT.figures.model_dump()] if table_ == "claims" else []),
            ],
            published=file_digest(PARAMS.with_name("published.csv")),
            claims=(yaml.safe_load(CLAIMS.read_text()) if table_ == "claims" else None),
            code=code_digest("tables"),
        message:
            f"table {table_[-1]}" if table_ in graph.PICTURES else "judge the claims"
        shell:
            "rdm tables {params.table} > {log} 2>&1"
