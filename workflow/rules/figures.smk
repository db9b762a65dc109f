for figure_ in graph.targets(EXPERIMENT):
    job_ = graph.target(EXPERIMENT, figure_)
    if job_.verb != "figures":
        continue

    rule:
        name:
            figure_
        input:
            files(job_.reads),
        output:
            in_report(files(job_.makes)),
        log:
            f"logs/figures/{figure_}.log",
        benchmark:
            f"logs/figures/{figure_}.tsv"
        params:
            figure=figure_,
            values=[
                EXPERIMENT.figures.model_dump(),
                list(EXPERIMENT.seeds),
                EXPERIMENT.tables.scale,
            ],
            code=code_digest("figures"),
        message:
            f"draw {figure_}"
        shell:
            "rdm figures {params.figure} > {log} 2>&1"
