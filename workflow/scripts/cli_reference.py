"""Write docs/cli.md: what `--help` says of every verb.

python workflow/scripts/cli_reference.py
"""

from pathlib import Path

import click

from rdm.cli import main

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"
HEADER = """\
# The command line

What `--help` says of every verb, in alphabetical order. Written by `python workflow/scripts/cli_reference.py`.
An option with an *env var* may be set in the environment instead. Three more variables:

| variable | what it says | without it |
|:--|:--|:--|
| `RDM_CACHE` | where downloaded weights lie, of Inception and I3D | the user's cache folder, `~/.cache/rdm` |
| `RDM_LOCK_DIR` | where the locks lie by which processes share GPUs | the temporary folder: `TMPDIR` or `/tmp` |
| `RDM_COMMIT` | what manifests name as the commit where there is no git, as in a container | none |

Where users of one machine have a `TMPDIR` each, `RDM_LOCK_DIR` must name one folder for all.
"""
WIDTH = 100


def reference():
    """The page: a section for each verb."""
    sections = [f"## {name}\n\n```\n{text}\n```\n" for name, text in helps(main, "rdm")]
    return "\n".join([HEADER, *sections])


def helps(command, name, parent=None):
    """(name, help) of a command and, if it is a group, of all below it."""
    settings = command.context_settings | {"terminal_width": WIDTH, "max_content_width": WIDTH}
    context = click.Context(command, parent=parent, info_name=name, **settings)
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for child in sorted(command.commands):
            yield from helps(command.commands[child], child, context)


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
