"""What a wrong call or a damaged log looks like: one clear line and a status, no traceback."""

import gzip
import os
import pathlib
import subprocess
import sys

import pytest

from experiments.govern import __main__ as govern  # pyright: ignore[reportMissingImports]

EXPERIMENTS = pathlib.Path(__file__).parents[2] / "experiments"
RECORDED = gzip.open(EXPERIMENTS / "data" / "turns.jsonl.gz", "rt").read().splitlines(True)


def run(*arguments, script="govern", **environment):
    return subprocess.run(
        [sys.executable, "-m", f"experiments.{script}", *map(str, arguments)],
        cwd=EXPERIMENTS.parent,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
    )


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], 'data: no turn of design "random"'),
        (["{}\n", *RECORDED[:5]], "line 1: not a turn record"),
        (RECORDED[:300], "data: 1 held-out episode has all cells at every turn"),
    ],
)
def test_damaged_logs(lines, message, tmp_path):
    """Of what is raised `test_command_lines` sees that one line is left."""
    (tmp_path / "log.jsonl").write_text("".join(lines))
    with pytest.raises((OSError, ValueError)) as caught:
        govern.main(["--data", str(tmp_path / "log.jsonl"), "--out", str(tmp_path)])
    assert message in " ".join(str(caught.value).split())


def test_a_wrong_call_as_a_user_makes_it():
    done = run("--live", "--turns", "5")
    assert done.returncode == 2
    assert "turns must be at least 18" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_server_that_is_not_there_ends_the_run_without_leaking_the_key(tmp_path):
    """The environment's server is used; its failure is said in one line, the key nowhere."""
    done = run(
        *("--out", tmp_path, "--fit-episodes", 1, "--evaluation-episodes", 1),
        *("--give-up-after", 1, "--seed", 19),  # its first episode has three turns
        script="collect",
        OPENAI_BASE_URL="http://127.0.0.1:9/v1",
        OPENAI_API_KEY="sk-not-to-be-seen",
    )
    if "openai client" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 1
    assert "1 turns in a row failed, the last: connection" in done.stderr
    written = [
        done.stdout,
        done.stderr,
        *(p.read_text() for p in tmp_path.glob("*") if p.is_file()),
    ]
    assert len(written) >= 4 and not any("not-to-be-seen" in text for text in written)
