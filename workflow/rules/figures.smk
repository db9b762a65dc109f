rule figure:
    input:
        lambda w: files(graph.figure(EXPERIMENT, w.figure).reads),
    output:
        files([paths.figure("{figure}"), paths.figure("{figure}", "csv")]),
    log:
        "logs/figures/{figure}.log",
    benchmark:
        "logs/figures/{figure}.tsv"
    wildcard_constraints:
        figure="|".join(["figure5", "gates", *EXPERIMENT.curves]),
    params:
        values=[
            EXPERIMENT.figures.model_dump(),
            list(EXPERIMENT.seeds),
            EXPERIMENT.tables.scale,
        ],
        code=code_digest("figures"),
    message:
        "draw {wildcards.figure}"
    shell:
        "rdm figures {wildcards.figure} > {log} 2>&1"
