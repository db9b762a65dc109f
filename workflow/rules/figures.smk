for figure_ in graph.targets(EXPERIMENT):
    if figure_ in graph.PICTURES:
        continue
    job_ = graph.figure(EXPERIMENT, figure_)

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
