"""A release agrees with itself: one version, declared imports, a whole source distribution."""

import ast
import pathlib
import re
import sys
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
# What a distribution installs, where it is called otherwise.
INSTALLS = {
    "orbax-checkpoint": "orbax",
    "pillow": "PIL",
    "prometheus-client": "prometheus_client",
}
# pyproject says how it is installed.
BY_HAND = {"qpth"}


def third_party(folder):
    """Packages that a folder's files import, within functions too, and one file of each."""
    local = {"stackjax", "experiments", *(path.name for path in (ROOT / "tests").iterdir())}
    found = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [str(node.module)]
            tops = {name.split(".")[0] for name in names} - local - set(sys.stdlib_module_names)
            found |= dict.fromkeys(tops, str(path.relative_to(ROOT)))
    return found


def installed_by(requirements):
    """The packages that requirements bring, those of this project's own extras included."""
    found = set()
    for requirement in requirements:
        name, *extras = re.findall(r"[\w.-]+", requirement.partition(">")[0])
        if name == PROJECT["name"]:
            for extra in extras:
                found |= installed_by(PROJECT["optional-dependencies"][extra])
        else:
            found.add(INSTALLS.get(name, name))
    return found


def test_one_version():
    version = PROJECT["version"]
    citation = (ROOT / "CITATION.cff").read_text()
    changelog = (ROOT / "CHANGELOG.md").read_text()
    number, day = re.findall(r"^## \[(\d[^\]]*)\] - (\S+)$", changelog, re.MULTILINE)[0]
    assert number == version
    assert re.findall(r"^version: (.*)$", citation, re.MULTILINE) == [version]
    assert re.findall(r"^date-released: (.*)$", citation, re.MULTILINE) == [day]


@pytest.mark.parametrize(
    ("folder", "extras"), [("stackjax", ("plot", "llm")), ("experiments", ("llm", "bench"))]
)
def test_every_import_is_declared(folder, extras):
    optional = [x for extra in extras for x in PROJECT["optional-dependencies"][extra]]
    declared = installed_by(PROJECT["dependencies"]) | installed_by(optional) | BY_HAND
    missing = {name: file for name, file in third_party(folder).items() if name not in declared}
    assert not missing, f"imported and not declared: {missing}"


def test_what_is_needed_without_extras_is_imported():
    assert installed_by(PROJECT["dependencies"]) <= set(third_party("stackjax"))


def test_the_source_distribution_is_whole():
    """Tests, experiments and notebooks import each other: all of them are in it, or none."""
    targets = PYPROJECT["tool"]["hatch"]["build"]["targets"]
    taken = targets["sdist"]["only-include"]
    assert set(taken) >= set(targets["wheel"]["packages"])
    assert not {"tests", "experiments", "notebooks", ".ci"} & set(taken)
    assert all((ROOT / path).exists() for path in taken)


def test_the_console_script_is_there():
    module, name = PROJECT["scripts"]["stackjax"].split(":")
    tree = ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_index_of_experiments():
    folder = ROOT / "experiments"
    index = (folder / "README.md").read_text()
    studies = re.findall(r"^\| `(\w+)` \|.*`python -m experiments\.(\w+)", index, re.MULTILINE)
    assert all(study == command for study, command in studies)
    assert {study for study, _ in studies} == {x.parent.name for x in folder.glob("*/__main__.py")}
    named = re.findall(r"`(?:results/)?([\w*]+\.(?:jsonl?|png))`", index)
    found = {path.name for pattern in named for path in (folder / "results").glob(pattern)}
    assert found == {path.name for path in (folder / "results").iterdir()}
    assert all((folder / link).exists() for link in re.findall(r"\]\(([^)]+)\)", index))
