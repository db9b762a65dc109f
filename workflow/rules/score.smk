SCORED = EXPERIMENT.score.data
# the file of Inception's weights is no input: a plan can be made without it, and `rdm score` asks for it
EXTRACTOR = (
    [manifest(paths.extractor(SCORED))]
    if EXPERIMENT.score.extractor.kind == "classifier"
    else []
)
FLOOR = str(paths.floor(SCORED, EXPERIMENT.score.protocol))


def score_files(system):
    """The score files of a system: its seeds and samplers."""
    return [
        str(paths.score(run, sampler, EXPERIMENT.score.protocol))
        for run in TABLED
        if RUNS[run][0] == system
        for sampler in TABLED[run]
    ]


def published_score(name):
    """The score file of a published sample set."""
    return str(paths.samples_score(name, EXPERIMENT.score.protocol))


rule extractor:
    input:
        manifest(paths.data(SCORED)),
    output:
        manifest(paths.extractor(SCORED)),
    log:
        "logs/extractor.log",
    threads: EXPERIMENT.threads
    params:
        values=dependencies.of_extractor(EXPERIMENT),
        code=code_digest("extractor"),
    message:
        "train the classifier that scores"
    shell:
        "rdm extractor > {log} 2>&1"


rule floor:
    input:
        manifest(paths.data(SCORED)),
        EXTRACTOR,
    output:
        FLOOR,
    log:
        "logs/score/floor.log",
    threads: EXPERIMENT.threads
    params:
        values=dependencies.of_scoring(EXPERIMENT),
        code=code_digest("score"),
    message:
        "score real images: the floor"
    shell:
        "rdm score floor > {log} 2>&1"


rule score_published:
    input:
        lambda w: EXPERIMENT.find_samples(w.samples),
        manifest(paths.data(SCORED)),
        EXTRACTOR,
    output:
        published_score("{samples}"),
    log:
        "logs/score/published/{samples}.log",
    threads: EXPERIMENT.threads
    params:
        values=dependencies.of_scoring(EXPERIMENT),
        code=code_digest("score"),
    message:
        "score published samples {wildcards.samples}"
    shell:
        "rdm score {wildcards.samples} > {log} 2>&1"


# one rule per system: its seeds are scored in one process, which loads the extractor once
for system_ in dict.fromkeys(RUNS[run][0] for run in TABLED):

    rule:
        name:
            f"score_{system_.replace('-', '_')}"
        input:
            [
                manifest(paths.sample(run, s))
                for run in TABLED
                if RUNS[run][0] == system_
                for s in TABLED[run]
            ],
            manifest(paths.data(SCORED)),
            EXTRACTOR,
        output:
            score_files(system_),
        log:
            f"logs/score/{system_}.log",
        threads: EXPERIMENT.threads
        params:
            runs=[run for run in TABLED if RUNS[run][0] == system_],
            values=dependencies.of_scoring(EXPERIMENT),
            code=code_digest("score"),
        message:
            f"score {system_}"
        shell:
            "rdm score {params.runs} > {log} 2>&1"
