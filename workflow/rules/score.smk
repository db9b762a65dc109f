rule extractor:
    input:
        lambda w: files(graph.extractor(EXPERIMENT, w.score).reads),
    output:
        files([paths.extractor("{dataset}", "{score}")]),
    log:
        "logs/extractor/{dataset}/{score}.log",
    benchmark:
        "logs/extractor/{dataset}/{score}.tsv"
    priority: 3
    threads: EXPERIMENT.threads
    resources:
        **ON_GPU,
    params:
        values=lambda w: dependencies.of_extractor(EXPERIMENT, w.score),
        code=code_digest("extractor"),
    message:
        "train the classifier that scores {wildcards.score}"
    shell:
        "rdm extractor {wildcards.score} --overwrite > {log} 2>&1"


for score_ in EXPERIMENT.score:
    job_ = graph.floor(EXPERIMENT, score_)

    rule:
        name:
            f"floor_{score_.replace('-', '_')}"
        input:
            files(job_.reads),
        output:
            files(job_.makes),
        log:
            f"logs/score/floor-{score_}.log",
        benchmark:
            f"logs/score/floor-{score_}.tsv"
        threads: EXPERIMENT.threads
        resources:
            **ON_GPU,
        params:
            score=score_,
            values=dependencies.of_scoring(EXPERIMENT, score_),
            code=code_digest("score"),
        message:
            f"score real items: the floor of {score_}"
        shell:
            "rdm score floor-{params.score} > {log} 2>&1"


for samples_, published_ in EXPERIMENT.published.items():
    job_, names_ = graph.published(EXPERIMENT, samples_), EXPERIMENT.scores_of(
        published_.data
    )
    # samples that are not there are no input: a plan can be made without them, and `rdm score` asks for them
    absent_ = set() if Path(published_.path).exists() else {published_.path}

    rule:
        name:
            f"score_published_{samples_.replace('-', '_')}"
        input:
            [path for path in files(job_.reads) if path not in absent_],
        output:
            files(job_.makes),
        log:
            f"logs/score/published/{samples_}.log",
        benchmark:
            f"logs/score/published/{samples_}.tsv"
        threads: EXPERIMENT.threads
        resources:
            **ON_GPU,
        params:
            samples=samples_,
            values={s: dependencies.of_scoring(EXPERIMENT, s) for s in names_},
            code=code_digest("score"),
        message:
            f"score published samples {samples_}"
        shell:
            "rdm score {params.samples} > {log} 2>&1"


# one rule per system: its seeds are scored in one process, which loads the extractor once; with parts, a second one
for system_ in SAMPLED:
    job_ = graph.score(EXPERIMENT, system_)
    values_ = {
        s: dependencies.of_scoring(EXPERIMENT, s)
        for s in EXPERIMENT.scores_of(EXPERIMENT.data_of(system_))
    }

    if EXPERIMENT.parts.score > 1:

        rule:
            name:
                f"score_part_{system_.replace('-', '_')}"
            input:
                files(job_.reads),
            output:
                touch(
                    paths.part_done("score", system_, "{part}", EXPERIMENT.parts.score)
                ),
            log:
                f"logs/score/{system_}/{{part}}.log",
            benchmark:
                f"logs/score/{system_}/{{part}}.tsv"
            threads: EXPERIMENT.threads
            resources:
                **ON_GPU,
            params:
                runs=list(job_.names),
                parts=EXPERIMENT.parts.score,
                values=values_,
                code=code_digest("score"),
            message:
                f"extract features of {system_}, part {{wildcards.part}}"
            shell:
                "rdm score {params.runs} --part {wildcards.part}/{params.parts} > {log} 2>&1"

    rule:
        name:
            f"score_{system_.replace('-', '_')}"
        input:
            files(job_.reads),
            parts_of("score", system_),
        output:
            files(job_.makes),
        log:
            f"logs/score/{system_}.log",
        benchmark:
            f"logs/score/{system_}.tsv"
        threads: EXPERIMENT.threads
        resources:
            **ON_GPU,
        params:
            runs=list(job_.names),
            values=values_,
            code=code_digest("score"),
        message:
            f"score {system_}"
        shell:
            "rdm score {params.runs} > {log} 2>&1"
