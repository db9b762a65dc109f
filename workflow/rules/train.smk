def training_inputs(wildcards):
    """The latents; for a gated run or its control also the run it starts from."""
    system, seed = RUNS[wildcards.run]
    start = getattr(EXPERIMENT.systems[system], "start", None)
    started = (
        [manifest(paths.train(paths.run_name(EXPERIMENT.name, start, seed)))]
        if start
        else []
    )
    return [latents_of(wildcards.run), *started]


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
