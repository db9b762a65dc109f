rule data:
    output:
        manifest(paths.data("{dataset}")),
    log:
        "logs/data/{dataset}.log",
    params:
        values=lambda w: dependencies.of_data(EXPERIMENT, w.dataset),
        code=code_digest("data"),
    message:
        "data set {wildcards.dataset}"
    shell:
        "rdm data {wildcards.dataset} > {log} 2>&1"
