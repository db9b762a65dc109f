# one rule per run, since its outputs are the samplers that tables and figures ask of it; with parts, a second one
for run_, samplers_ in SAMPLED.items():
    needed_ = [
        manifest(paths.train(run_)),
        latents_of(run_),
        manifest(paths.data(EXPERIMENT.data_of(RUNS[run_][0]))),
    ]
    values_ = {s: dependencies.of_sample(EXPERIMENT, run_, s) for s in samplers_}

    if EXPERIMENT.parts.sample > 1:

        rule:
            name:
                f"sample_part_{run_.replace('-', '_')}"
            input:
                needed_,
            output:
                touch(
                    paths.part_done("sample", run_, "{part}", EXPERIMENT.parts.sample)
                ),
            log:
                f"logs/sample/{run_}/{{part}}.log",
            benchmark:
                f"logs/sample/{run_}/{{part}}.tsv"
            threads: EXPERIMENT.threads
            resources:
                **ON_GPU,
            params:
                run=run_,
                parts=EXPERIMENT.parts.sample,
                values=values_,
                code=code_digest("sample"),
            message:
                f"sample {run_}, part {{wildcards.part}}"
            shell:
                "rdm sample {params.run} --part {wildcards.part}/{params.parts} > {log} 2>&1"

    rule:
        name:
            f"sample_{run_.replace('-', '_')}"
        input:
            needed_,
            parts_of("sample", run_),
        output:
            [manifest(paths.sample(run_, sampler)) for sampler in samplers_],
        log:
            f"logs/sample/{run_}.log",
        benchmark:
            f"logs/sample/{run_}.tsv"
        threads: EXPERIMENT.threads
        resources:
            **ON_GPU,
        params:
            run=run_,
            values=values_,
            code=code_digest("sample"),
        message:
            f"sample {run_}"
        shell:
            "rdm sample {params.run} > {log} 2>&1"
