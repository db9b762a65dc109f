rule autoencoder:
    input:
        lambda w: files(graph.autoencoder(EXPERIMENT, w.autoencoder).reads),
    output:
        files([paths.autoencoder("{dataset}", "{autoencoder}")]),
    log:
        "logs/autoencoder/{dataset}/{autoencoder}.log",
    benchmark:
        "logs/autoencoder/{dataset}/{autoencoder}.tsv"
    wildcard_constraints:
        autoencoder="|".join(EXPERIMENT.autoencoders),
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
        "rdm autoencoder {wildcards.autoencoder} --overwrite > {log} 2>&1"


rule latents:
    input:
        lambda w: files(graph.latents(EXPERIMENT, w.autoencoder).reads),
    output:
        files([paths.latents("{dataset}", "{autoencoder}")]),
    log:
        "logs/latents/{dataset}/{autoencoder}.log",
    benchmark:
        "logs/latents/{dataset}/{autoencoder}.tsv"
    priority: 2
    threads: EXPERIMENT.threads
    resources:
        **ON_GPU,
    params:
        values=lambda w: dependencies.of_latents(EXPERIMENT, w.autoencoder),
        code=code_digest("latents"),
        gpus=gpus_option,
    message:
        "encode {wildcards.dataset} as {wildcards.autoencoder}"
    shell:
        "rdm latents {wildcards.autoencoder} --overwrite{params.gpus} > {log} 2>&1"
