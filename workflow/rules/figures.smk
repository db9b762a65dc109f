def figure_inputs(wildcards):
    """The runs that a figure shows, and for curves their scores."""
    systems = EXPERIMENT.figure_systems(wildcards.figure)
    trained = [manifest(paths.train(run)) for run in runs_of(systems)]
    if wildcards.figure in ("figure6", "figure7"):
        return trained + [file for system in systems for file in score_files(system)]
    return trained


rule figure:
    input:
        figure_inputs,
    output:
        str(paths.figure("{figure}")),
        str(paths.figure("{figure}", "csv")),
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
