"""What must agree is compared here; each message is the repair."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import scail2_farm
from scail2_farm import errors
from scail2_farm.documents import json_schemas
from scail2_farm.errors import FarmError

ROOT = Path(__file__).resolve().parents[1]


def leaves(root: type[FarmError]) -> list[type[FarmError]]:
    below = root.__subclasses__()
    return [leaf for child in below for leaf in leaves(child)] if below else [root]


def tracked() -> list[Path]:
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def test_error_tree_is_the_docstring():
    groups = FarmError.__subclasses__()
    told: dict[str, set[str]] = {}
    group = ""
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"\s*[├└]─ (\w+)", line)
        if match:
            group = match[1]
            told[group] = set()
        elif line.startswith("    │"):
            told[group] |= set(re.findall(r"\w+", line))
    assert told == {g.__name__: {leaf.__name__ for leaf in g.__subclasses__()} for g in groups}


@pytest.mark.parametrize("leaf", leaves(FarmError), ids=lambda leaf: leaf.__name__)
def test_every_error_can_be_acted_on(leaf: type[FarmError]):
    fault = leaf("something")
    assert re.fullmatch(r"SF-[A-Z]+(-[A-Z]+)*", fault.code)
    assert leaf.__doc__, "the docstring is the default why"
    assert leaf.__doc__ != FarmError.__doc__, "the docstring is the default why"
    assert len(fault.fix.split()) > 3, "the fix is an instruction"
    assert fault.exit_code in (3, 4, 5, 6, 7)
    assert fault.code in str(fault)
    assert fault.what in str(fault)


def test_error_codes_are_unique():
    codes = [leaf("x").code for leaf in leaves(FarmError)]
    assert len(set(codes)) == len(codes)


def test_schemas_are_in_sync():
    for name, text in json_schemas().items():
        path = ROOT / "schemas" / name
        assert path.is_file(), "run: make schemas"
        assert path.read_text(encoding="utf-8") == text, f"{name} differs; run: make schemas"
    assert {path.name for path in (ROOT / "schemas").iterdir()} == set(json_schemas())


def loaded_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sorted(name.partition('.')[0] for name in sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(found.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "statement",
    [
        "import scail2_farm",
        "sys.argv = ['scail2-farm', '--help']\nfrom scail2_farm.cli import main\ntry: main()\nexcept SystemExit: pass",
        "import scail2_farm.farm.daemon, scail2_farm.operators, scail2_farm.editorial.suffixes",  # a farm's own process
    ],
)
def test_start_is_light(statement: str):
    assert not loaded_after(statement) & {"mlx", "av", "opentimelineio", "numpy", "OpenEXR", "PyOpenColorIO"}


def test_map_names_every_room():
    told = scail2_farm.__doc__ or ""
    package = ROOT / "scail2_farm"
    rooms = {path.name for path in package.iterdir() if path.name not in ("__init__.py", "__pycache__", "__main__.py")}
    missing = {room for room in rooms if room not in told and f"{room}/" not in told}
    assert not missing, f"the map in scail2_farm/__init__.py does not name {missing}"


def commands() -> dict[str, set[str]]:
    """Every command and its options, as the command line itself has them."""
    import typer.main

    from scail2_farm.cli import app

    def walk(command, prefix: str) -> dict[str, set[str]]:
        inner = getattr(command, "commands", None)
        if inner is None:
            return {prefix: {option for parameter in command.params for option in parameter.opts}}
        return {k: v for name, child in inner.items() for k, v in walk(child, f"{prefix} {name}".strip()).items()}

    return walk(typer.main.get_command(app), "")


def test_readme_opens_with_its_two_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = text.split("```", 2)[1]
    assert [line.split()[:2] for line in block.splitlines()[1:] if line.strip()] == [["make", "demo"], ["make", "test"]]


def test_readme_names_every_command_and_only_real_ones():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    known = commands()
    for name in known:
        assert f"scail2-farm {name}" in text, f"README.md does not show `scail2-farm {name}`"
    for block in re.findall(r"`{1,3}[^`]+`{1,3}", text):
        for line in re.findall(r"scail2-farm ([a-z][^\n`#]*)", block):
            words = line.split()
            name = next((n for n in (" ".join(words[:2]), words[0]) if n in known), None)
            assert name is not None, f"README.md shows `scail2-farm {line}`, which is no command"
            options = {word.split("=")[0] for word in words if word.startswith("--")}
            assert options <= known[name] | {"--help"}, f"README.md shows unknown options {options - known[name]}"


def test_constraints_are_pins_and_nothing_else():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line)] == []


def test_no_large_files():
    large = [p for p in tracked() if p.stat().st_size > 1_000_000 and p.parent.name not in ("golden", "miniature")]
    assert large == []


def test_modules_open_with_what_they_are_for():
    silent = [path for path in (ROOT / "scail2_farm").rglob("*.py") if not inspect.cleandoc(_docstring(path)).strip()]
    assert silent == []


def _docstring(path: Path) -> str:
    import ast

    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
