"""Neural-RDM, reproduced: data -> latents -> train -> sample -> score -> tables.

Each rule calls one `rdm` verb. Which rules there are follows from one parameter file:
params/digits.yaml, or the one given by --configfile.
"""

from snakemake.utils import min_version

min_version("9.27")


include: "workflow/rules/common.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/container.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/latents.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/sample.smk"
include: "workflow/rules/score.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"


rule all:
    default_target: True
    input:
        table1_or_made,
    localrule: True
