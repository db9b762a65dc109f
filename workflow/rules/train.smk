rule train:
    input:
        lambda w: files(graph.train(EXPERIMENT, w.run).reads),
    output:
        files([paths.train("{run}")]),
    log:
        "logs/train/{run}.log",
    benchmark:
        "logs/train/{run}.tsv"
    priority: 1
    threads: EXPERIMENT.threads
    resources:
        **{name: gpus_to_train for name in ON_GPU},
    params:
        values=lambda w: dependencies.of_train(EXPERIMENT, w.run),
        code=code_digest("train"),
        gpus=gpus_option,
    message:
        "train {wildcards.run}"
    shell:
        "rdm train {wildcards.run} --overwrite{params.gpus} > {log} 2>&1"
