def training_inputs(wildcards):
    """The latents; for a gated run or its control also the run it starts from."""
    system, seed = RUNS[wildcards.run]
    start = getattr(EXPERIMENT.systems[system], "start", None)
    started = [manifest(paths.train(paths.run_name(EXPERIMENT.name, start, seed)))] if start else []
    return [latents_of(wildcards.run), *started]


rule train:
    input:
        training_inputs,
    output:
        manifest(paths.train("{run}")),
    log:
        "logs/train/{run}.log",
    message:
        "train {wildcards.run}"
    params:
        file=PARAMS,
        values=lambda w: dependencies.of_train(EXPERIMENT, w.run),
        code=code_digest("train"),
    threads: EXPERIMENT.threads
    priority: 1
    shell:
        "rdm train {wildcards.run} --params {params.file:q} > {log} 2>&1"
