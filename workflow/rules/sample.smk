# one rule per run, since its outputs are the samplers that tables and figures ask of it; with parts, a second one
for run_ in graph.runs_of(EXPERIMENT, SAMPLED):
    job_ = graph.sample(EXPERIMENT, run_)
    values_ = {path.name: values for path, values in job_.makes.items()}

    if EXPERIMENT.parts.sample > 1:

        rule:
            name:
                f"sample_part_{run_.replace('-', '_')}"
            input:
                files(job_.reads),
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
                gpus=gpus_option,
            message:
                f"sample {run_}, part {{wildcards.part}}"
            shell:
                "rdm sample {params.run} --part {wildcards.part}/{params.parts}{params.gpus} > {log} 2>&1"

    rule:
        name:
            f"sample_{run_.replace('-', '_')}"
        input:
            files(job_.reads),
            parts_of("sample", run_),
        output:
            files(job_.makes),
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
            gpus=gpus_option,
        message:
            f"sample {run_}"
        shell:
            "rdm sample {params.run} --overwrite{params.gpus} > {log} 2>&1"
