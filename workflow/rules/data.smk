rule data:
    input:
        IMAGE_INPUT,
    output:
        files([paths.data("{dataset}")]),
    log:
        "logs/data/{dataset}.log",
    benchmark:
        "logs/data/{dataset}.tsv"
    priority: 4  # first of all: what follows is long, and waits for it
    threads: EXPERIMENT.threads
    params:
        values=lambda w: dependencies.of_data(EXPERIMENT, w.dataset),
        code=code_digest("data"),
    message:
        "data set {wildcards.dataset}"
    shell:
        "rdm data {wildcards.dataset} --overwrite > {log} 2>&1"
