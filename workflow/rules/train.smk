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
    benchmark:
        "logs/train/{run}.tsv"
    priority: 1
    threads: EXPERIMENT.threads
    resources:
        **ON_GPU,
    params:
        values=lambda w: dependencies.of_train(EXPERIMENT, w.run),
        code=code_digest("train"),
        # of resources, and so no reason to train again
        gpus=lambda wildcards, resources: (
            f" --gpus {resources.gpu}" if resources.get("gpu") else ""
        ),
    message:
        "train {wildcards.run}"
    shell:
        "rdm train {wildcards.run}{params.gpus} > {log} 2>&1"
