"""Print what pyproject.toml asks for, one requirement a line: dependencies, every extra, and the dev group.

`pip install --group` needs pip 25.1, and the pip of a fresh machine is older.
"""

import sys
import tomllib
from pathlib import Path


def requirements(document: dict) -> list[str]:
    project = document["project"]
    extras = project.get("optional-dependencies", {}).values()
    found = [
        *project["dependencies"],
        *(one for extra in extras for one in extra),
        *document["dependency-groups"]["dev"],
    ]
    own = project["name"] + "["  # an extra that is the sum of others
    return sorted({one for one in found if not one.startswith(own)})


if __name__ == "__main__":
    print("\n".join(requirements(tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))
