"""The notebooks' cells run in order, and print the facts that their kept outputs print."""

import contextlib
import io
import json
import pathlib

import jax
import pytest

NOTEBOOKS = sorted((pathlib.Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(path):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    printed, namespace = io.StringIO(), {}
    with contextlib.redirect_stdout(printed), jax.numpy_rank_promotion("allow"):
        for number, cell in enumerate(cells, 1):
            code = "".join(cell["source"]).replace("plt.show()", "plt.close()")
            exec(compile(code, f"{path.name} cell {number}", "exec"), namespace)
    kept = "".join("".join(out.get("text", "")) for cell in cells for out in cell["outputs"])
    facts = [line for line in kept.splitlines() if line.endswith(("True", "False"))]
    assert facts and set(facts) <= set(printed.getvalue().splitlines())
