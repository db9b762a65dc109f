def floor_file(score):
    """The score file of real items."""
    parameters = EXPERIMENT.score[score]
    return str(paths.floor(parameters.data, parameters.protocol))


def scoring_inputs(score):
    """The real items, and the classifier whose features are compared."""
    # a published network's file is no input: a plan can be made without it, and `rdm score` asks for it
    parameters = EXPERIMENT.score[score]
    trained = parameters.extractor.kind == "classifier"
    return [
        manifest(paths.data(parameters.data)),
        *([manifest(paths.extractor(parameters.data, score))] if trained else []),
    ]


def scores_of(system):
    """The names of the scores of a system."""
    return EXPERIMENT.scores_of(EXPERIMENT.data_of(system))


def score_files(system):
    """The score files of a system: its seeds, samplers, and scores."""
    return [
        str(paths.score(run, sampler, EXPERIMENT.score[score].protocol))
        for run in runs_of([system])
        for sampler in SAMPLED[run]
        for score in scores_of(system)
    ]


def published_scores(name):
    """The score files of a published sample set."""
    published = EXPERIMENT.published[name]
    return [
        str(paths.published_score(name, EXPERIMENT.score[score].protocol))
        for score in EXPERIMENT.scores_of(published.data)
    ]


rule extractor:
    input:
        manifest(paths.data("{dataset}")),
    output:
        manifest(paths.extractor("{dataset}", "{score}")),
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
        "rdm extractor {wildcards.score} > {log} 2>&1"


for score_ in EXPERIMENT.score:

    rule:
        name:
            f"floor_{score_.replace('-', '_')}"
        input:
            scoring_inputs(score_),
        output:
            floor_file(score_),
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
    names_ = EXPERIMENT.scores_of(published_.data)

    rule:
        name:
            f"score_published_{samples_.replace('-', '_')}"
        input:
            published_.path,
            [file for score in names_ for file in scoring_inputs(score)],
        output:
            published_scores(samples_),
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
for system_ in dict.fromkeys(RUNS[run][0] for run in SAMPLED):
    names_ = scores_of(system_)
    needed_ = [
        *[
            manifest(paths.sample(run, s))
            for run in runs_of([system_])
            for s in SAMPLED[run]
        ],
        *[file for score in names_ for file in scoring_inputs(score)],
    ]
    values_ = {s: dependencies.of_scoring(EXPERIMENT, s) for s in names_}

    if EXPERIMENT.parts.score > 1:

        rule:
            name:
                f"score_part_{system_.replace('-', '_')}"
            input:
                needed_,
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
                runs=runs_of([system_]),
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
            needed_,
            parts_of("score", system_),
        output:
            score_files(system_),
        log:
            f"logs/score/{system_}.log",
        benchmark:
            f"logs/score/{system_}.tsv"
        threads: EXPERIMENT.threads
        resources:
            **ON_GPU,
        params:
            runs=runs_of([system_]),
            values=values_,
            code=code_digest("score"),
        message:
            f"score {system_}"
        shell:
            "rdm score {params.runs} > {log} 2>&1"
