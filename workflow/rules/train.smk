def training_inputs(wildcards):
    """The latents, and the run that this one starts from, if there is one."""
    start = dependencies.start_of(EXPERIMENT, wildcards.run)
    return [
        latents_of(wildcards.run),
        *([manifest(paths.train(start))] if start else []),
    ]


rule train:
    input:
        training_inputs,
    output:
        manifest(paths.train("{run}")),
    log:
        "logs/train/{run}.log",
    priority: 1
    threads: EXPERIMENT.threads
    params:
        values=lambda w: dependencies.of_train(EXPERIMENT, w.run),
        code=code_digest("train"),
    message:
        "train {wildcards.run}"
    shell:
        "rdm train {wildcards.run} > {log} 2>&1"
