"""Print the README's command that follows `<!-- NAME -->`: the one source of how to run and how to test."""

import pathlib
import re
import sys

readme = (pathlib.Path(__file__).parents[1] / "README.md").read_text()
marks = {"main": "main job", "tests": "tests"}
found = re.search(rf"<!-- {marks[sys.argv[1]]} -->\s*```sh\n(.*?)```", readme, re.S)
if found is None:
    sys.exit(f"README.md has no block after <!-- {marks[sys.argv[1]]} -->")
print(found[1].strip())
