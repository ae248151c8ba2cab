"""SIGKILL at random moments and at chosen events of the file system, over all stages, predict, review and serve.

`KILLS=100 EVENTS=60 SERVERS=10 pytest -m slow tests/test_kills.py` for more than the slow tests take.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import IO, Any

import pytest
import yaml

from assay.human_review.corrections import HEADER
from tests.http_load import ask, request
from tests.own_process import REPOSITORY
from tests.pipeline_copy import write_pipeline_copy
from tests.test_pipeline import resolved_stages
from tests.test_smoke import IMPORTS

KILLS, EVENTS, SERVERS = (int(os.environ.get(*one)) for one in (("KILLS", "12"), ("EVENTS", "8"), ("SERVERS", "2")))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]
FORKS = f"""
import importlib, json, os, signal, sys, time
{IMPORTS}
from assay.core.errors import run_stage
NAMES = {{"os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"}}
for line in sys.stdin:
    folder, (module, *arguments), seconds, event = json.loads(line)
    main, started = importlib.import_module(module).main, time.monotonic()
    if (child := os.fork()) == 0:
        seen = 0
        def count(name, what):
            global seen
            if name in NAMES or (name == "open" and isinstance(what[2], int) and what[2] & os.O_ACCMODE):
                seen += 1
                if seen == event:
                    os.kill(os.getpid(), signal.SIGKILL)
        os.chdir(folder)
        sys.argv = [module, *arguments]
        sys.addaudithook(count)
        print("pid", os.getpid(), flush=True)
        run_stage(main)
        print("events", seen, flush=True)
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print("ended", code, time.monotonic() - started, flush=True)
"""
"""Runs each line of JSON, `[folder, [module, argument, …], seconds, event]`, in a fork, which is killed then."""


@dataclass(frozen=True)
class Forks:
    """Where stages and tools run."""

    to: IO[str]
    said: IO[str]

    def start(self, folder: Path, command: list[str], seconds: float | None = None, event: int = 0) -> None:
        print(json.dumps([str(folder), command, seconds, event]), file=self.to, flush=True)

    def read(self, word: str) -> list[str]:
        """The words after this one, of the next line that has it."""
        return next(line for line in self.said if word in line).partition(word)[2].split()

    def run(self, folder: Path, command: list[str], seconds: float | None = None, event: int = 0) -> int:
        self.start(folder, command, seconds, event)
        return int(self.read("ended")[0])


@dataclass(frozen=True)
class Command:
    """A command, what it writes, how long it takes, and how many events it has."""

    arguments: list[str]
    outs: list[str]
    seconds: float
    events: int


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", FORKS], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Forks(process.stdin, process.stdout)
        process.stdin.close()


@pytest.fixture(scope="module")
def finished(
    forks: Forks, tiny_encoder: Path, tiny_chat_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Command]]:
    """Where every stage and `predict` have run once, undisturbed."""
    folder = tmp_path_factory.mktemp("kills") / "finished"
    params = write_pipeline_copy(REPOSITORY, folder, tiny_encoder, tiny_chat_model, feedback_rows=120)
    (folder / "texts.csv").write_text("text\ngreat card\nawful bank\n")
    stages = [
        (one.command[2:], one.outs) for one in resolved_stages(yaml.safe_load(Path("dvc.yaml").read_text()), params)
    ]
    commands = []
    for arguments, outs in [*stages, (["tools.predict", "tfidf", "texts.csv", "out.csv"], ["out.csv"])]:
        forks.start(folder, arguments)
        (events,), (code, seconds) = forks.read("events"), forks.read("ended")
        assert code == "0"
        kept = [out for out in outs if not out.startswith("metrics/cost")]  # which hold seconds
        commands.append(Command(arguments, kept, float(seconds), int(events)))
    return folder, commands


def digest(path: Path) -> str | None:
    """A hash of what is in a file or folder; None where there is nothing."""
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    parts = [f"{one.relative_to(path)} {hashlib.sha256(one.read_bytes()).hexdigest()}" for one in files]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest() if path.exists() else None


def leftovers(folder: Path) -> list[Path]:
    return [one for kind in ("partial", "old") for one in folder.rglob(f".*.{kind}*")]


@pytest.mark.parametrize("at_events", [False, True])
def test_a_rerun_after_a_kill_ends_as_an_undisturbed_run(
    finished: tuple[Path, list[Command]], forks: Forks, tmp_path: Path, at_events: bool
) -> None:
    (done, commands), draw, ends = finished, random.Random(1), []
    for number in range(EVENTS if at_events else KILLS):
        command = draw.choice(commands)
        folder = shutil.copytree(done, tmp_path / "copy")
        if at_events:
            ends.append(forks.run(folder, command.arguments, event=draw.randint(1, command.events)))
            for path in [folder / out for out in command.outs]:
                places = [path, *path.parent.glob(f".{path.name}.old-*")]
                assert digest(done / path.relative_to(folder)) in map(digest, places), (command, path)
        else:
            for out in command.outs if number % 2 else []:  # as DVC does before a run
                shutil.rmtree(folder / out) if (folder / out).is_dir() else (folder / out).unlink()
            ends.append(forks.run(folder, command.arguments, seconds=draw.uniform(0, command.seconds)))
        assert forks.run(folder, command.arguments) == 0
        assert {out: digest(folder / out) for out in command.outs} == {out: digest(done / out) for out in command.outs}
        assert leftovers(folder) == []
        shutil.rmtree(folder)
    print(f"{ends.count(-signal.SIGKILL)} of {len(ends)} killed")
    assert ends.count(-signal.SIGKILL) > len(ends) / 2


def post(port: int, path: str, body: dict[str, Any]) -> None:
    head = "Content-Type: application/json\r\nOrigin: http://localhost\r\n"
    assert ask(port, request(body, path, head))[0] in (200, 202)


def decide_all(port: int, _: Path) -> None:
    """Remove every row of the queue that is not decided."""
    for row in ask(port, request("", "/api/rows", method="GET"))[1]["rows"]:
        if not row["decided"]:
            post(port, "/api/decide", {"id": row["id"], "action": "remove"})


def send_all(port: int, file: Path) -> None:
    """Send those of a hundred corrections that are not in the file."""
    for number in range(max(0, len(file.read_text().splitlines()) - 1) if file.is_file() else 0, 100):
        post(port, "/corrections", {"text": f"text {number}", "label": "positive", "reviewer": "Ann"})


@pytest.mark.parametrize(
    ("arguments", "file", "send"),
    [
        (["tools.review.queue_page", "--port", "0", "--reviewer", "Ann"], "data/corrections.csv", decide_all),
        (["tools.serve", "tfidf", "--port", "0"], "data/feedback.csv", send_all),
    ],
)
def test_what_was_sent_before_and_after_a_kill_is_there_once(
    finished: tuple[Path, list[Command]],
    forks: Forks,
    tmp_path: Path,
    arguments: list[str],
    file: str,
    send: Callable[[int, Path], None],
) -> None:
    draw, expected = random.Random(2), b""
    for number in range(SERVERS + 1):
        folder = shutil.copytree(finished[0], tmp_path / "copy")
        for is_killed in (True, False) if number else (False,):
            forks.start(folder, arguments, event=draw.randint(1, 100) if is_killed and number % 2 else 0)
            pid = int(forks.read("pid")[0])
            # At an event it may be killed before it serves.
            line = next(line for line in forks.said if "http://" in line or "ended" in line)
            try:
                port = int(line.rpartition("http://")[2].partition(";")[0].rpartition(":")[2])
                if is_killed and not number % 2:
                    Timer(draw.uniform(0, 0.5), os.kill, (pid, signal.SIGKILL)).start()
                send(port, folder / file)
            except (OSError, EOFError, ValueError):
                assert is_killed
            if "ended" not in line:
                os.kill(pid, signal.SIGKILL)
                forks.read("ended")
        expected = expected or (folder / file).read_bytes()
        assert len(expected) > len(HEADER) + 1
        assert (folder / file).read_bytes() == expected
        shutil.rmtree(folder)
