"""What `snakemake --report` shows, and where in it. The captions are workflow/report/<name>.rst."""


report: "../report/workflow.rst"


# name of a file, without its suffix -> category in the report's menu, and what it is
SHOWN = {
    "table1": ("Tables", "Table 1, images"),
    "table2": ("Tables", "Table 2, clips"),
    "claims": ("Claims", "the paper's claims, and verdicts"),
    "table1-runs": ("Runs", "the runs of Table 1"),
    "table2-runs": ("Runs", "the runs of Table 2"),
    "figure5": ("Figures", "Figure 5, sensitivity by depth"),
    "figure6": ("Figures", "Figure 6, residual units"),
    "figure7": ("Figures", "Figure 7, depth"),
    "rates": ("Figures", "gates trained at higher rates"),
    "gates": ("Figures", "learnt gates by depth"),
    "losses": ("Figures", "training losses"),
    "samples": ("Samples", "images, the same seeds"),
    "clips": ("Samples", "clips, frame by frame"),
    "moving-clips": ("Samples", "clips, moving"),
}
# what the report can display, and what it hands out as a file
KINDS = {".html": "a page", ".png": "a picture", ".csv": "numbers (CSV)"}


def in_report(outputs):
    """The outputs, those marked that the report shows. To be called from a file in workflow/rules."""
    marked = []
    for output in outputs:
        name, kind = Path(output).stem, KINDS.get(Path(output).suffix)
        if name in SHOWN and kind:
            category, what = SHOWN[name]
            labels, caption = {"result": what, "as": kind}, f"../report/{name}.rst"
            output = report(output, caption=caption, category=category, labels=labels)
        marked.append(output)
    return marked


def table1_or_made(wildcards):
    """To be run: Table 1. To be looked at, as by --report: whatever was made here, and Table 1."""
    made = [
        next(iter(graph.target(EXPERIMENT, name).makes))
        for name in graph.targets(EXPERIMENT)
        if name != "claims" or CLAIMS.is_file()
    ]
    running = workflow.execution_settings is not None
    return [
        path
        for path in made
        if path.stem == "table1" or (path.exists() and not running)
    ]
