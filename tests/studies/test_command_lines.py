"""Every command line: help that says what, how long and where to; one line for a wrong call."""

import gzip
import importlib
import json
import os
import pathlib
import signal
import sys
import zlib

import pytest

from experiments.common.args import parse
from experiments.common.command import INTERRUPTED, TERMINATED, launch
from experiments.common.phases import Kept, Phases, Stopped, in_words, usual_seconds, watched
from stackjax.agents.control import known_world
from stackjax.runtime import __main__ as command
from stackjax.runtime import proxy
from stackjax.runtime import report_log as report

EXPERIMENTS = pathlib.Path(__file__).parents[2] / "experiments"
SCRIPTS = sorted(path.parent.name for path in EXPERIMENTS.glob("*/__main__.py"))
WORDS = ("second", "minute", "hour", "min", "Kill it", "Ctrl-C")  # of how long it takes


@pytest.fixture(autouse=True)
def a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def load(name):
    """The script as a module."""
    return importlib.import_module(f"experiments.{name}.__main__")


def call(main, *arguments):
    """Exit status of a script with these arguments, as `launch` makes it."""
    with pytest.raises(SystemExit) as left:
        launch(lambda: main([str(argument) for argument in arguments]))
    code = left.value.code
    return 0 if code is None else code


def refused(capsys, main, *arguments):
    """The one line on stderr of a call that must fail."""
    assert call(main, *arguments) in (1, 2)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and ": error: " in lines[0], lines
    return lines[0]


MODULES = {"proxy": proxy, "report": report}
ALL = [*SCRIPTS, *MODULES]


def main_of(name):
    return (MODULES[name] if name in MODULES else load(name)).main


@pytest.mark.parametrize("name", ALL)
def test_help_and_unknown_options(name, capsys):
    main = main_of(name)
    assert call(main, "--help") == 0
    text = capsys.readouterr().out
    assert "usage: " in text and "error" not in text.splitlines()[0]
    assert "--out" in text or "--log" in text
    assert any(word in text for word in WORDS)
    assert "`" not in text and "default: None" not in text
    assert max(map(len, text.splitlines())) <= 100
    assert "--no-such-option" in refused(capsys, main, *REQUIRED.get(name, ()), "--no-such-option")


REQUIRED = {"proxy": ("--upstream", "http://127.0.0.1:9/v1", "--policy", "p"), "report": ("l",)}


ANY_NUMBER = {("collect", "seed")}  # Python's generator takes any


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_number_is_checked(name, capsys):
    """Of each option that is a number: text, and one that is below all that is allowed."""
    module = load(name)
    numbers = [
        field.name.replace("_", "-")
        for field in module.Args.__dataclass_fields__.values()
        if str(field.type) in ("int", "float")
    ]
    only_parsed = lambda argv: parse(module.Args, argv) and None
    for number in numbers:
        assert number in refused(capsys, only_parsed, f"--{number}", "many")
        if (name, number) not in ANY_NUMBER:
            line = refused(capsys, only_parsed, f"--{number}", "-7")
            assert number in line or number.replace("-", "_") in line


# Of `confirmatory` and `pool` the analysis, their default, writes where no option says.
@pytest.mark.parametrize("name", [n for n in SCRIPTS if n not in ("confirmatory", "pool")])
def test_data_and_out_are_checked_before_the_work(name, tmp_path, capsys):
    main, fields = main_of(name), load(name).Args.__dataclass_fields__
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    if "data" in fields:
        assert "nowhere" in refused(capsys, main, "--data", "nowhere.jsonl")
        if name != "repair":  # a folder of logs will do
            assert "is a folder" in refused(capsys, main, "--data", "folder")
    # below a file there is no folder: this holds for root, too
    line = refused(capsys, main, "--out", "file/below/out")
    assert "out: cannot write into" in line or "Not a directory" in line
    wrong = "file" if fields["out"].default.suffix == "" else "folder"
    line = refused(capsys, main, "--out", wrong)
    assert "out must be a" in line or "File exists" in line


@pytest.mark.parametrize("name", ["certificate", "followers", "govern", "repair"])
def test_a_damaged_log_is_named(name, tmp_path, capsys):
    whole = gzip.compress(b"".join(r.to_json().encode() + b"\n" for r in known_world.records(4)))
    bad = {
        "cut.jsonl.gz": whole[:-40],
        "flipped.jsonl.gz": whole[:60] + bytes(b ^ 0xFF for b in whole[60:80]) + whole[80:],
        "text.jsonl": b"not a record\n{}\n",
    }
    for file, content in bad.items():
        (tmp_path / file).write_bytes(content)
        assert file in refused(capsys, main_of(name), "--data", tmp_path / file)


def test_flipped_bytes_are_what_zlib_refuses():
    """The case above is not one that gzip's own errors cover."""
    whole = gzip.compress(b"".join(r.to_json().encode() + b"\n" for r in known_world.records(4)))
    with pytest.raises(zlib.error):
        gzip.decompress(whole[:60] + bytes(b ^ 0xFF for b in whole[60:80]) + whole[80:])


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("classical", ("--kind", "easy"), "kind must be one of strong, convex, nonconvex"),
        ("classical", ("--name", "nobody"), "no such problem: nobody"),
        ("classical", ("--kind", "strong", "--name", "nobody"), "no such problem of kind"),
        ("runtime", ("--controller", "best"), "controller must be learned or rational"),
        ("runtime", ("--policy", __file__, "--only-policy"), "policy must be a folder"),
        ("repair", ("--level", "2"), "level"),
        ("certificate", ("--level", "1"), "level must lie between 0 and 1"),
        ("speed", ("--workloads", "R1,R9"), "workloads must be among"),
        ("speed", ("--contenders", "nobody"), "none is called 'nobody'"),
        ("labels", ("--quick", "perhaps"), "unrecognized arguments: perhaps"),
    ],
)
def test_other_wrong_options(name, arguments, message, capsys):
    assert message in refused(capsys, main_of(name), *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--policy", "p"), "the following arguments are required: --upstream"),
        (("--upstream", "127.0.0.1", "--policy", "p"), "absolute http(s) URL"),
        (
            ("--upstream", "http://127.0.0.1:9/v1", "--policy", "p"),
            "must hold a policy; got p without policy.json",
        ),
        (("--upstream", "http://127.0.0.1:9/v1", "--policy", "p", "--mode", "soft"), "mode"),
        (
            ("--upstream", "http://127.0.0.1:9/v1", "--policy", "p", "--port", "99999"),
            "`port` must be between 0 and 65535; got 99999",
        ),
        (("--upstream", "http://127.0.0.1:9/v1", "--policy", "p", "--log", "a.txt"), ".jsonl"),
        (
            ("--upstream", "http://127.0.0.1:9/v1", "--policy", "damaged"),
            "policy.json: not a policy",
        ),
    ],
)
def test_proxy(arguments, message, tmp_path, capsys):
    pytest.importorskip("uvicorn")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "policy.json").write_text("{")
    (tmp_path / "damaged" / "arrays.npz").write_bytes(b"")
    assert message in refused(capsys, proxy.main, *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "the following arguments are required: log"),
        (("nowhere.jsonl",), "nowhere.jsonl"),
        (("folder",), "folder"),
        (("torn.jsonl.gz",), "must be a complete gzip file; it is torn"),
        (("known.jsonl",), 'must hold turns of design "runtime"; got none of 8'),
        (("known.jsonl", "--level", "2"), "level"),
        (("known.jsonl", "--margin", "wide"), "invalid float value"),
    ],
)
def test_report(arguments, message, tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    lines = "".join(record.to_json() + "\n" for record in known_world.records(1, 1))
    (tmp_path / "known.jsonl").write_text(lines)
    (tmp_path / "torn.jsonl.gz").write_bytes(gzip.compress(lines.encode())[:-9])
    assert message in refused(capsys, report.main, *arguments)


def test_one_command_leads_to_both(tmp_path, capsys, monkeypatch):
    assert call(command.main, "--help") == 0
    told = capsys.readouterr().out
    assert told.startswith("usage: stackjax ") and all(
        f"stackjax {name} " in told for name in MODULES
    )
    for name in MODULES:
        assert call(command.main, name, "--help") == 0
        assert capsys.readouterr().out.startswith(f"usage: stackjax {name} ")
    for wrong in ((), ("serve",), ("--log", "x"), ("report",), ("proxy", "--port", "1")):
        assert call(command.main, *wrong) == 2
        line = capsys.readouterr().err
        assert line.count("\n") == 1 and ": error: " in line, line
    monkeypatch.setattr(sys, "argv", ["stackjax", "report", "nowhere.jsonl"])
    assert command.main() == 2  # as the console script calls it
    assert capsys.readouterr().err.startswith("report: error: ")


def test_interrupted_runs_go_on_where_they_stopped(tmp_path, capsys):
    """Ctrl-C and `kill` in the middle: 130 or 143, one line, and no finished part runs again."""
    ran = []

    def script(stop):
        phases = Phases(2, kept=Kept(tmp_path / "kept", {"seed": 0}))
        first = phases.job("first", lambda: ran.append("first") or {"value": 3.5})
        second = phases.job("second", lambda: ran.append("second") or stop())
        phases.finish()
        (tmp_path / "out.json").write_text(json.dumps([first, second]))

    def interrupt():
        raise KeyboardInterrupt

    for stop, status in (
        (interrupt, INTERRUPTED),
        (lambda: os.kill(os.getpid(), signal.SIGTERM) or signal.sigtimedwait([], 5), TERMINATED),
    ):
        assert call(lambda argv, stop=stop: script(stop)) == status
        out, err = capsys.readouterr()
        assert "[2/2] second" in out and "stopped" in out
        assert f"1 part is kept in {tmp_path / 'kept'}: run the same command to go on" in err
        assert len(err.strip().splitlines()) == 1
    assert call(lambda argv: script(lambda: "done")) == 0
    assert ran == ["first", "second", "second", "second"]
    assert json.loads((tmp_path / "out.json").read_text()) == [{"value": 3.5}, "done"]
    assert not (tmp_path / "kept").exists()


def test_parts_of_another_run_and_damaged_ones_are_not_taken(tmp_path):
    run = {"seed": 0}
    assert Kept(tmp_path / "kept", run).get("part", lambda: 1) == 1
    assert Kept(tmp_path / "kept", run).get("part", lambda: 2) == 1
    assert Kept(tmp_path / "kept", {"seed": 1}).get("part", lambda: 3) == 3
    for file in (tmp_path / "kept").glob("*.pickle"):
        file.write_bytes(b"damaged")
    assert Kept(tmp_path / "kept", {"seed": 1}).get("part", lambda: 4) == 4
    (tmp_path / "kept" / "run.json").write_text("{")
    assert Kept(tmp_path / "kept", {"seed": 1}).get("part", lambda: 5) == 5
    with pytest.raises(ValueError, match="as it came"):
        Kept(tmp_path / "kept", run).get("other", fail)
    assert "other" not in Kept(tmp_path / "kept", run)


def fail():
    raise ValueError("as it came")


def test_a_run_that_keeps_nothing_says_so():
    with pytest.raises(Stopped, match="nothing is kept"), Phases(1)("part"):
        raise KeyboardInterrupt


def test_what_remains_is_the_rest_at_this_runs_pace():
    phases = Phases(3, usual={"a": 10.0, "b": 20.0, "c": 30.0})
    assert phases.remaining("a") == 60.0  # nothing is known of the pace yet
    phases.seconds["a"] = 5.0
    assert phases.remaining("b") == 25.0
    assert phases.remaining("unheard of") is None
    assert Phases(1).remaining("a") is None
    assert [in_words(s) for s in (8.2, 100, 9000)] == ["8 s", "2 min", "2.5 h"]
    assert sum(usual_seconds("govern.json").values()) > 10
    assert usual_seconds("nowhere.json") == usual_seconds("bench.json", "runs") == {}


def test_progress_goes_to_a_terminal_only(monkeypatch, capsys):
    with Phases(1)("part"):
        pass
    assert list(watched(iter("ab"), 2, "letters")) == ["a", "b"]
    out, err = capsys.readouterr()
    assert out.startswith("[1/1] part ... 0.") and not err

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with Phases(1, usual={"part": 200.0})("part"):
        print("a line of the part's own")
    assert list(watched(iter("ab"), 2, "letters")) == ["a", "b"]
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "a line of the part's own"
    assert out.splitlines()[1].startswith("[1/1] part 0.")
    assert "part" in err and "remain" in err and "letters" in err


def test_other_exceptions_keep_their_traceback():
    with pytest.raises(AttributeError):
        launch(lambda: getattr(None, "nothing"))  # noqa: B009


def test_the_script_is_told_by_its_name(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["experiments/labels"])
    with pytest.raises(SystemExit):
        launch(fail)
    assert capsys.readouterr().err == "labels: error: as it came\n"
