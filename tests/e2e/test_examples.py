"""The examples are submissions one may read; each plans as its expected/ says."""

import json
import runpy
import shutil
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
MADE = shutil.ignore_patterns("plates", "mattes", "refs", "weights", "edit.scail2*")


@pytest.mark.parametrize("name", [path.parent.parent.name for path in EXAMPLES.glob("*/expected/plan.json")])
def test_an_example_plans_as_expected(name, farm, tmp_path):
    folder = tmp_path / name
    shutil.copytree(EXAMPLES / name, folder, ignore=MADE)
    (tmp_path / "miniature").mkdir()
    shutil.copy(EXAMPLES / "miniature" / "scenes.py", tmp_path / "miniature")
    runpy.run_path(str(folder / "make_media.py"), run_name="__main__")
    said = farm("check", folder / "edit.otio", "--json")
    assert said.code == 0, said.err
    planned = json.loads(said.out.replace(f"{folder}/", ""))
    repair = f"if this is meant: scail2-farm check examples/{name}/edit.otio --json, its paths relative"
    assert planned == json.loads((folder / "expected" / "plan.json").read_text()), repair
