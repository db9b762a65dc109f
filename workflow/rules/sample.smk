# one rule per run, since its outputs are the samplers that tables and figures ask of it
for run_, samplers_ in SAMPLED.items():

    rule:
        name:
            f"sample_{run_.replace('-', '_')}"
        input:
            manifest(paths.train(run_)),
            latents_of(run_),
            manifest(paths.data(EXPERIMENT.data_of(RUNS[run_][0]))),
        output:
            [manifest(paths.sample(run_, sampler)) for sampler in samplers_],
        log:
            f"logs/sample/{run_}.log",
        threads: EXPERIMENT.threads
        params:
            run=run_,
            values={s: dependencies.of_sample(EXPERIMENT, run_, s) for s in samplers_},
            code=code_digest("sample"),
        message:
            f"sample {run_}"
        shell:
            "rdm sample {params.run} > {log} 2>&1"
