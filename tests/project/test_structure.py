"""The package's floors: imports lead downwards, rooms and files stay small."""

import ast
import inspect
import pathlib
import subprocess
import sys

import pytest

import stackjax

HOUSE = pathlib.Path(stackjax.__file__).parent
# From the ground up. Rooms of one floor do not know each other; a room of `agents` or `runtime`
# counts by itself.
FLOORS = [
    {"guide", "_arrays", "agents.tasks", "runtime._command_line"},
    {"sets", "finite", "stats"},
    {"_game", "solvers"},
    {"_follower", "games", "labels", "agents.game"},
    {"_leader", "_check", "fit", "repair", "plot", "agents.log"},
    {"certificates", "agents.executor", "agents.surrogate"},
    {"agents.repair", "runtime.chat"},
    {"agents.control"},
    {"agents.evaluation", "runtime.policy"},
    {"agents", "runtime.governor"},
    {"runtime.gateway", "runtime.report"},
    {"runtime", "runtime.calibrate_log", "runtime.proxy", "runtime.report_log"},
    {"runtime.__main__"},
    {"stackjax"},
]
FLOOR = {room: number for number, floor in enumerate(FLOORS) for room in floor}
FILES = {
    ".".join(path.relative_to(HOUSE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(HOUSE.rglob("*.py"))
}


def room_of(module):
    parts = module.split(".")[1:]
    if not parts:
        return "stackjax"
    return ".".join(parts[: 2 if parts[0] in ("agents", "runtime") else 1])


def imports_of(path):
    """The modules of this package that a file imports, within functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "stackjax":
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                yield inside if inside in FILES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in FILES)


def test_every_room_has_its_floor():
    assert {room_of(module) for module in FILES} == set(FLOOR)


@pytest.mark.parametrize("module", FILES)
def test_imports_lead_downwards(module):
    here = room_of(module)
    for other in imports_of(FILES[module]):
        there = room_of(other)
        assert there == here or FLOOR[there] < FLOOR[here], f"{module} imports {other}"


def test_rooms_and_files_are_small():
    folders = [HOUSE, *{path.parent for path in FILES.values()}]
    entries = {
        folder: [x for x in folder.iterdir() if x.name != "__pycache__"] for folder in folders
    }
    assert {str(f): len(e) for f, e in entries.items() if len(e) > 20} == {}
    lines = {name: len(path.read_text().splitlines()) for name, path in FILES.items()}
    assert {name: n for name, n in lines.items() if n > 400} == {}


def test_rooms_that_type_checkers_see_are_those_that_load_on_first_use():
    rooms = {path.name for path in HOUSE.iterdir() if path.is_dir() and path.name[0] != "_"}
    (block,) = (
        node for node in ast.parse(FILES["stackjax"].read_text()).body if isinstance(node, ast.If)
    )
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.name for node in imports for alias in node.names}
    assert rooms == seen == stackjax._ROOMS
    assert rooms - {"plot"} == {
        x for x in stackjax.__all__ if inspect.ismodule(getattr(stackjax, x))
    }


def test_importing_the_package_loads_nothing_that_is_slow_and_seldom_needed():
    slow = ("scipy.optimize", "scipy.stats", "matplotlib", "orbax.checkpoint", "stackjax.agents")
    code = f"import sys, stackjax; print(*[m for m in {slow} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
