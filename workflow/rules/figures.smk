rule figure:
    input:
        lambda w: [
            manifest(paths.train(paths.run_name(EXPERIMENT.name, system, seed)))
            for system in EXPERIMENT.figure_systems(w.figure)
            for seed in EXPERIMENT.seeds
        ],
    output:
        str(paths.figure("{figure}")),
        str(paths.figure("{figure}", "csv")),
    log:
        "logs/figures/{figure}.log",
    wildcard_constraints:
        figure="figure5|gates",
    params:
        values=EXPERIMENT.figures.model_dump(),
        code=code_digest("figures"),
    message:
        "draw {wildcards.figure}"
    shell:
        "rdm figures {wildcards.figure} > {log} 2>&1"
