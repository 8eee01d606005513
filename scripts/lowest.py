"""Print the lowest version of each dependency that pyproject.toml allows, as constraints for pip.

python scripts/lowest.py > lowest.txt && pip install --constraint lowest.txt .
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*>=\s*([0-9][0-9a-z.]*)")


def main() -> None:
    """Print a line for each dependency with a lowest version."""
    project = tomllib.loads(PROJECT.read_text("utf-8"))["project"]
    for requirement in project["dependencies"]:
        if found := _REQUIREMENT.match(requirement):
            print(f"{found[1]}=={found[2]}")


if __name__ == "__main__":
    main()
