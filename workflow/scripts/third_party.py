"""Write THIRD_PARTY.md: the licences of all that is not ours, from the package's own lists and the installed packages.

python workflow/scripts/third_party.py
"""

import importlib.metadata
import re
import tomllib
from pathlib import Path

from tabulate import tabulate

from rdm.data import digits, fashion, published
from rdm.models import registry

HEADER = """\
# Third-party licences

Our own code is under the MIT licence ([LICENSE](LICENSE)). It contains nobody else's; what it reads, downloads or
imports has the licences below. **NC**: not for commercial use, or for research alone; take that to hold for what is
trained on it or starts from it, too. Written by `workflow/scripts/third_party.py`.
"""
RESTRICTED = re.compile(r"non-commercial|not for commercial|-NC-|^research", re.IGNORECASE)


def main():
    """Write the file."""
    Path("THIRD_PARTY.md").write_text(text(), encoding="utf-8")


def text():
    """The whole file."""
    return "\n".join([HEADER, *map(section, ("Data", "Weights", "Packages"), (data(), weights(), packages()))])


def section(title, rows):
    """A heading and a table."""
    return f"## {title}\n\n{tabulate(rows, headers='keys', tablefmt='pipe')}\n"


def data():
    """What is shipped with scikit-learn or downloaded, and the paper's own."""
    rows = [row("digits", digits.ORIGIN, digits.LICENCE), row("fashion", fashion.ORIGIN, fashion.LICENCE)]
    return rows + [row(name, found.what, found.licence) for name, found in published.DATASETS.items()]


def weights():
    """What `rdm models fetch` downloads."""
    return [row(name, found.what, found.licence) for name, found in registry.WEIGHTS.items()]


def row(name, what, licence):
    """One line."""
    return {"name": name, "what": what, "licence": licence, "": "**NC**" if RESTRICTED.search(licence) else ""}


def packages():
    """What is imported; the lock names more, which these need."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["cluster"]]
    names = sorted(re.match(r"[\w-]+", requirement).group() for requirement in wanted)
    return [{"name": name, "licence": licence_of(name)} for name in names]


def licence_of(package):
    """As the package's metadata say: an SPDX expression, or a trove classifier, or the first line of a text."""
    found = importlib.metadata.metadata(package)
    classified = [
        name.rsplit(" :: ", 1)[1] for name in found.get_all("Classifier", []) if name.startswith("License ::")
    ]
    return found.get("License-Expression") or ", ".join(classified) or found["License"].splitlines()[0]


if __name__ == "__main__":
    main()
