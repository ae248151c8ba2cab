"""SIGKILL at random moments and at chosen events of the file system, over all stages, predict, review and serve.

`KILLS=100 EVENTS=60 SERVERS=10 pytest -m slow tests/test_kills.py` for more than the slow tests take.
"""

import hashlib
import importlib
import os
import random
import shutil
import signal
import sys
from contextlib import nullcontext
from multiprocessing import get_context
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from threading import Timer
from time import monotonic
from typing import Any

import polars as pl
import pytest
import yaml

from assay.core.errors import run_stage
from tests.http_load import ask, request, serving
from tests.own_process import REPOSITORY
from tests.pipeline_copy import write_pipeline_copy
from tests.test_pipeline import resolved_stages

KILLS, EVENTS, SERVERS = (int(os.environ.get(*one)) for one in (("KILLS", "12"), ("EVENTS", "8"), ("SERVERS", "2")))
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"}
FORKS = get_context("forkserver")  # one process imports what takes long, and forks one for each command
TRAINERS = [f"trl.trainer.{name}_trainer" for name in ("sft", "reward", "dpo", "rloo")]
HEAD = "Content-Type: application/json\r\nOrigin: http://localhost\r\n"
Command = tuple[list[str], list[str], float, int]
"""Its arguments, what it writes, how many seconds it takes, and how many events it has."""
SERVED = [
    (["tools.serve", "tfidf"], "data/feedback.csv", "/corrections", "text"),
    (["tools.review.queue_page", "--reviewer", "Ann"], "data/corrections.csv", "/api/decide", "id"),
]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]


def work(folder: Path, arguments: list[str], events: "Synchronized[int]", at: int) -> None:
    """Run a stage or tool and count its events; it is killed at one of them."""

    def count(name: str, what: tuple[Any, ...]) -> None:
        if name in CHANGES or (name == "open" and isinstance(what[2], int) and what[2] & os.O_ACCMODE):
            events.value += 1
            if events.value == at:
                os.kill(os.getpid(), signal.SIGKILL)

    main = importlib.import_module(arguments[0]).main
    os.chdir(folder)
    sys.argv, sys.dont_write_bytecode = arguments, True
    sys.addaudithook(count)
    run_stage(main)


def run(folder: Path, command: list[str], seconds: float | None = None, at: int = 0) -> tuple[int | None, int, float]:
    """Exit code, events and seconds of a command, which is killed after so many seconds or at an event."""
    events = FORKS.Value("i", lock=False)
    process = FORKS.Process(target=work, args=(folder, command, events, at))
    process.start()  # ends with the fork
    started = monotonic()
    process.join(seconds)
    process.kill()
    process.join()
    return process.exitcode, events.value, monotonic() - started


@pytest.fixture(scope="module")
def finished(
    tiny_encoder: Path, tiny_chat_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Command]]:
    """Where every stage and `predict` have run once, undisturbed."""
    folder = tmp_path_factory.mktemp("kills") / "finished"
    params = write_pipeline_copy(REPOSITORY, folder, tiny_encoder, tiny_chat_model, feedback_rows=120)
    (folder / "texts.csv").write_text("text\ngreat card\nawful bank\n")
    stages = resolved_stages(yaml.safe_load((folder / "dvc.yaml").read_text()), params)
    FORKS.set_forkserver_preload([__name__, "datasets", "peft", *TRAINERS, *{one.command[2] for one in stages}])
    commands: list[Command] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(REPOSITORY))  # of the process that forks
        predict = (["tools.predict", "tfidf", "texts.csv", "out.csv"], ["out.csv"])
        for arguments, outs in [*((one.command[2:], one.outs) for one in stages), predict]:
            code, events, seconds = run(folder, arguments)
            assert code == 0, arguments
            kept = [out for out in outs if not out.startswith("metrics/cost")]  # which hold seconds
            commands.append((arguments, kept, seconds, events))
    return folder, commands


def content(path: Path) -> dict[str, str]:
    """Hashes of a file, or of the files of a folder; none where there is nothing."""
    files = [one for one in [path, *path.rglob("*")] if one.is_file()]
    return {os.path.relpath(one, path): hashlib.sha256(one.read_bytes()).hexdigest() for one in files}


@pytest.mark.parametrize("at_events", [False, True])
def test_a_rerun_after_a_kill_ends_as_an_undisturbed_run(
    finished: tuple[Path, list[Command]], tmp_path: Path, at_events: bool
) -> None:
    (done, commands), draw, ends = finished, random.Random(1), []
    for number in range(EVENTS if at_events else KILLS):
        arguments, outs, seconds, events = draw.choice(commands)
        expected = {out: content(done / out) for out in outs}
        folder = shutil.copytree(done, tmp_path / "copy")
        if at_events:
            ends.append(run(folder, arguments, at=draw.randint(1, events))[0])
            for path in [folder / out for out in outs]:
                places = [path, *path.parent.glob(f".{path.name}.old-*")]
                assert expected[str(path.relative_to(folder))] in map(content, places), (arguments, path)
        else:
            for out in outs if number % 2 else []:  # as DVC does before a run
                shutil.rmtree(folder / out) if (folder / out).is_dir() else (folder / out).unlink()
            ends.append(run(folder, arguments, seconds=draw.uniform(0, seconds))[0])
        assert run(folder, arguments)[0] == 0
        assert {out: content(folder / out) for out in outs} == expected, arguments
        assert [one for kind in ("partial", "old") for one in folder.rglob(f".*.{kind}*")] == []
        shutil.rmtree(folder)
    assert ends.count(-signal.SIGKILL) > len(ends) / 2, ends


@pytest.mark.parametrize(("command", "file", "path", "key"), SERVED)
def test_what_was_answered_is_in_the_file_once_after_a_kill(
    finished: tuple[Path, list[Command]], tmp_path: Path, command: list[str], file: str, path: str, key: str
) -> None:
    draw, bodies = random.Random(2), [{"text": f"t{row}", "label": "positive", "reviewer": "Ann"} for row in range(60)]
    if key == "id":
        queue = pl.read_csv(finished[0] / "data/review/queue.csv", infer_schema=False)
        bodies = [{"id": row_id, "action": "remove"} for row_id in queue["id"]]
    for _ in range(SERVERS):
        folder = shutil.copytree(finished[0], tmp_path / "copy")
        written: list[str] = []
        for last in (draw.randrange(len(bodies) // 2), None):
            answered = len(written)
            ends = nullcontext() if last is None else pytest.raises((OSError, EOFError))
            with serving(["-m", *command, "--port", "0"], folder) as (port, process), ends:
                for body in bodies[answered:]:
                    if answered == last:
                        Timer(draw.uniform(0, 0.01), process.kill).start()
                    assert ask(port, request(body, path, HEAD))[0] in (200, 202)
                    answered += 1
            written = pl.read_csv(folder / file, infer_schema=False)[key].to_list()
            assert answered <= len(written) <= answered + 1
            assert written == [body[key] for body in bodies[: len(written)]]
        assert len(written) == len(bodies) > 9
        shutil.rmtree(folder)
