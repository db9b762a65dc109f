rule data:
    output:
        manifest(paths.data("{dataset}")),
    log:
        "logs/data/{dataset}.log",
    message:
        "data set {wildcards.dataset}"
    params:
        file=PARAMS,
        values=lambda w: dependencies.of_data(EXPERIMENT, w.dataset),
        code=code_digest("data"),
    shell:
        "rdm data {wildcards.dataset} --params {params.file:q} > {log} 2>&1"
