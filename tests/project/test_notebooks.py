"""The notebooks' cells run in order, and print what their kept outputs print.

Lines that end in True or False are facts and must be the same. Other numbers may depend on the
machine; where they do not, the cell is tagged "numbers", and they are compared to a tolerance.
"""

import contextlib
import copy
import io
import json
import pathlib
import re
import sys

import jax
import pytest

NOTEBOOKS = sorted((pathlib.Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
LARGEST = 300_000  # bytes of a notebook with its outputs
NUMBER = re.compile(r"-?\d[\d,]*\.?\d*(?:e[-+]?\d+)?")
# The guide's pages run the same library code; these take a minute each.
LONG = ("02_", "03_", "06_", "07_")
on_each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def kept_text(cell):
    return "".join("".join(out.get("text", "")) for out in cell["outputs"])


def is_fact(line):
    return line.endswith(("True", "False"))


def faults(notebook):
    """What is wrong with the outputs that are kept in a notebook."""
    cells = code_cells(notebook)
    outputs = [out for cell in cells for out in cell["outputs"]]
    kinds = {kind for out in outputs for kind in out.get("data", {})}
    found = []
    if any(cell["execution_count"] is None for cell in cells):
        found.append("a cell was not run")
    if [cell["execution_count"] for cell in cells] != list(range(1, len(cells) + 1)):
        found.append("cells were not run in order")
    if any(out["output_type"] == "error" for out in outputs):
        found.append("an error is kept")
    if any(out.get("name") == "stderr" for out in outputs):
        found.append("a warning is kept")
    if "image/png" not in kinds:
        found.append("no figure is kept")
    if not any(is_fact(line) for cell in cells for line in kept_text(cell).splitlines()):
        found.append("no fact is kept")
    if len(json.dumps(notebook)) > LARGEST:
        found.append("too large")
    return found


def differences(kept, printed, *, numbers):
    """Lines kept that were not printed: facts, and if `numbers` also lines with other numbers."""
    words = lambda line: NUMBER.sub("#", " ".join(line.split()))
    values = lambda line: [float(text.replace(",", "")) for text in NUMBER.findall(line)]
    missing = []
    for line in kept.splitlines():
        if is_fact(line) or numbers:
            close = pytest.approx(values(line), rel=0.05, abs=0.02)
            alike = [other for other in printed.splitlines() if words(other) == words(line)]
            if not any(values(other) == close for other in alike):
                missing.append(line)
    return missing


@on_each
def test_kept_outputs(path):
    assert faults(json.loads(path.read_text())) == []


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=[pytest.mark.slow] * p.stem.startswith(LONG)) for p in NOTEBOOKS],
    ids=lambda path: path.stem,
)
def test_prints_what_is_kept(path, monkeypatch):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    monkeypatch.chdir(path.parent)  # as Jupyter does
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setenv("CONTEXTS", "8192")
    namespace, wrong = {"__name__": "__main__"}, {}
    with jax.numpy_rank_promotion("allow"), matplotlib.rc_context():
        for number, cell in enumerate(code_cells(json.loads(path.read_text())), 1):
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                code = "".join(cell["source"]).replace("plt.show()", "plt.close()")
                exec(compile(code, f"{path.name} cell {number}", "exec"), namespace)
            numbers = "numbers" in cell["metadata"].get("tags", [])
            missing = differences(kept_text(cell), printed.getvalue(), numbers=numbers)
            if missing:
                wrong[number] = {"kept": missing, "printed": printed.getvalue()}
        plt.close("all")
    assert wrong == {}


def test_what_is_wrong_is_found():
    """The checks above can fail."""
    good = json.loads(NOTEBOOKS[0].read_text())
    error = {"output_type": "error", "ename": "E", "evalue": "", "traceback": []}
    warning = {"output_type": "stream", "name": "stderr", "text": "careful"}

    def with_first(**changes):
        notebook = copy.deepcopy(good)
        code_cells(notebook)[0].update(changes)
        return faults(notebook)

    bare = copy.deepcopy(good)
    for cell in code_cells(bare):
        cell["outputs"] = []
    assert faults(bare) == ["no figure is kept", "no fact is kept"]
    assert "a cell was not run" in with_first(execution_count=None)
    assert with_first(execution_count=7) == ["cells were not run in order"]
    assert with_first(outputs=[error]) == ["an error is kept"]
    assert with_first(outputs=[warning]) == ["a warning is kept"]
    assert with_first(source="#" * LARGEST) == ["too large"]

    kept = "price 2.00, 1,000 of them\nconverged: True"
    assert differences(kept, "converged: True\nprice 2.04, 1,001 of them", numbers=True) == []
    assert differences(kept, "converged: True\nprice 3.00, 1,000 of them", numbers=True) == [
        "price 2.00, 1,000 of them"
    ]
    assert differences(kept, "converged: True", numbers=False) == []
    assert differences(kept, "converged: False\nprice 2.00, 1,000 of them", numbers=False) == [
        "converged: True"
    ]
    assert differences("9 steps: True", "7 steps: True", numbers=False) == ["9 steps: True"]
