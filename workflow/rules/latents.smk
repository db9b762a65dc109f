rule autoencoder:
    input:
        manifest(paths.data("{dataset}")),
    output:
        manifest(paths.autoencoder("{dataset}", "{autoencoder}")),
    log:
        "logs/autoencoder/{dataset}/{autoencoder}.log",
    benchmark:
        "logs/autoencoder/{dataset}/{autoencoder}.tsv"
    priority: 2
    threads: EXPERIMENT.threads
    resources:
        **ON_GPU,
    params:
        values=lambda w: dependencies.of_autoencoder(EXPERIMENT, w.autoencoder),
        code=code_digest("autoencoder"),
    message:
        "train autoencoder {wildcards.autoencoder}"
    shell:
        "rdm autoencoder {wildcards.autoencoder} > {log} 2>&1"


rule latents:
    input:
        manifest(paths.data("{dataset}")),
        manifest(paths.autoencoder("{dataset}", "{autoencoder}")),
    output:
        manifest(paths.latents("{dataset}", "{autoencoder}")),
    log:
        "logs/latents/{dataset}/{autoencoder}.log",
    benchmark:
        "logs/latents/{dataset}/{autoencoder}.tsv"
    priority: 2
    threads: EXPERIMENT.threads
    resources:
        **ON_GPU,
    params:
        values=lambda w: dependencies.of_autoencoder(EXPERIMENT, w.autoencoder),
        code=code_digest("latents"),
    message:
        "encode with {wildcards.autoencoder}"
    shell:
        "rdm latents {wildcards.autoencoder} > {log} 2>&1"
