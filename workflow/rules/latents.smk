rule autoencoder:
    input:
        manifest(paths.data("{dataset}")),
    output:
        manifest(paths.autoencoder("{dataset}", "{autoencoder}")),
    log:
        "logs/autoencoder/{dataset}/{autoencoder}.log",
    message:
        "train autoencoder {wildcards.autoencoder}"
    params:
        file=PARAMS,
        values=lambda w: dependencies.of_autoencoder(EXPERIMENT, w.autoencoder),
        code=code_digest("autoencoder"),
    threads: EXPERIMENT.threads
    priority: 2
    shell:
        "rdm autoencoder {wildcards.autoencoder} --params {params.file:q} > {log} 2>&1"


rule latents:
    input:
        manifest(paths.data("{dataset}")),
        manifest(paths.autoencoder("{dataset}", "{autoencoder}")),
    output:
        manifest(paths.latents("{dataset}", "{autoencoder}")),
    log:
        "logs/latents/{dataset}/{autoencoder}.log",
    message:
        "encode with {wildcards.autoencoder}"
    params:
        file=PARAMS,
        values=lambda w: dependencies.of_autoencoder(EXPERIMENT, w.autoencoder),
        code=code_digest("latents"),
    threads: EXPERIMENT.threads
    priority: 2
    shell:
        "rdm latents {wildcards.autoencoder} --params {params.file:q} > {log} 2>&1"
