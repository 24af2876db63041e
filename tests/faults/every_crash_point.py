"""Kill at each (crash point, n-th time) of publishing, taking back and setting aside: ``every_crash_point.py FOLDER``.

torch is imported once; each kill is a fork. For each operation one undisturbed fork counts how often each point is
reached and gives the expected end; then one fork is killed at each of them, and another goes on with what it left. One
JSON object on stdout: ``kills`` by operation, and ``wrong``, which must be empty.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import torch

from tests.generations import bits_of
from tests.unit.trainq.ml.tiny import SETTINGS, Script, job_over, save_model, start, train
from trainq import checkpoints, crashpoints, files
from trainq.config import Home
from trainq.ml import checkpointing, determinism, model
from trainq.ml.training import Job
from trainq.shards import ShardWriter

Digests = dict[str, str]


def make_home(root: Path) -> Home:
    home = Home(root)
    for folder in home.folders():
        files.make_directory(folder)
    return home


def make_job(root: Path, name: str) -> Job:
    path = root / name
    with files.publish_directory(path) as folder, ShardWriter(folder, key=name, context_tokens=64) as writer:
        for row, length in enumerate((5, 9, 3, 12)):
            writer.append([(row * 31 + at * at * 7 + len(name)) % 262 for at in range(length)],
                          [at > 0 for at in range(length)], bytes([row]) * 32, row + 1)
        writer.seal(b"{}")
    return job_over(path, name, msgspec.structs.replace(SETTINGS, checkpoint_steps=1))


def head(home: Home) -> checkpoints.Verified:
    found, _ = checkpoints.newest_verified(home.checkpoints)
    assert found is not None
    return found


def digests(home: Home) -> Digests:
    return bits_of(head(home).manifest)


class Operation:
    """``act`` is what a training process does; done again on what a kill has left it must come to the same end."""

    def __init__(self, name: str, act: Callable[[Home], None]) -> None:
        self.name, self.act = name, act


def train_on(job: Job) -> Callable[[Home], None]:
    def act(home: Home) -> None:
        train(checkpointing.restore(head(home)), job, home)

    return act


def take_back(job: Job) -> Callable[[Home], None]:
    def act(home: Home) -> None:
        restored = checkpointing.restore(head(home))
        if restored.facts.cursor.job == job.id:
            checkpointing.take_back(restored, home)

    return act


def set_aside(home: Home) -> None:
    _, damaged = checkpoints.newest_verified(home.checkpoints)
    for path in checkpoints.list_generations(home.checkpoints)[:len(damaged)]:
        checkpoints.set_aside(path)


def in_a_fork(work: Callable[[], None]) -> int:
    """Do it in a child; its exit status, negative for a signal."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def as_a_process(home: Home, operation: Operation) -> None:
    """What every life of a training process begins with, and then the operation."""
    files.sweep_temporaries(home.checkpoints, home.root)
    operation.act(home)


def count_reaches(home: Home, operation: Operation, into: Path) -> None:
    reached: Counter[str] = Counter()
    crashpoints.reach = lambda name: reached.update([name])  # type: ignore[assignment]  # it counts in its place
    as_a_process(home, operation)
    into.write_text(json.dumps(reached))


def kill_at_each(template: Path, folder: Path, operation: Operation, wrong: list[str]) -> int:
    calm = Home(Path(shutil.copytree(template, folder / "calm", symlinks=True)))
    before = digests(calm)
    assert in_a_fork(lambda: count_reaches(calm, operation, folder / "reached.json")) == 0
    reached, after = json.loads((folder / "reached.json").read_text()), digests(calm)
    generations = {path.name: bits_of(checkpoints.verify(path).manifest)
                   for path in checkpoints.list_generations(calm.checkpoints) if "damaged" not in path.name}
    shutil.rmtree(calm.root)
    for point, times in reached.items():
        for hits in range(1, times + 1):
            where = f"{operation.name}, {point} {hits}"
            home = Home(Path(shutil.copytree(template, folder / "home", symlinks=True)))

            def killed(home: Home = home, point: str = point, hits: int = hits) -> None:
                crashpoints.arm(point, hits)
                as_a_process(home, operation)

            if in_a_fork(killed) != -signal.SIGKILL:
                wrong.append(f"{where}: it was not killed there")
            left = head(home)
            if left.facts.name in generations and digests(home) != generations[left.facts.name]:
                wrong.append(f"{where}: {left.facts.name} is another one than undisturbed")
            if left.facts.name not in generations and digests(home) != before:
                wrong.append(f"{where}: {left.facts.name} is neither the state before nor one after")
            if in_a_fork(lambda home=home: as_a_process(home, operation)) != 0 or digests(home) != after:
                wrong.append(f"{where}: done again it does not come to the same end")
            wrong += [f"{where}: {path.name} is left" for path in home.root.rglob(".tmp-*")]
            shutil.rmtree(home.root)
    return sum(reached.values())


def main() -> None:
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    model.silence_libraries()
    determinism.enforce()
    save_model(folder / "model")
    gc.freeze()  # nothing of it becomes garbage, and each fork would look through it
    first, second = make_job(folder, "job-1"), make_job(folder, "job-2")
    home = make_home(folder / "template")
    begun = start(folder / "model", home)
    train(begun, first, home)
    half = Home(Path(shutil.copytree(home.root, folder / "half", symlinks=True)))
    train(checkpointing.restore(head(half)), second, half, Script(at=2))
    damaged = Home(Path(shutil.copytree(half.root, folder / "damaged", symlinks=True)))
    for path in checkpoints.list_generations(damaged.checkpoints)[:2]:
        content = bytearray((path / "model.safetensors").read_bytes())
        content[-1] ^= 1
        (path / "model.safetensors").write_bytes(content)
    wrong: list[str] = []
    kills = {operation.name: kill_at_each(template.root, folder, operation, wrong) for template, operation in (
        (half, Operation("training to the end", train_on(second))),
        (half, Operation("taking back", take_back(second))),
        (damaged, Operation("setting aside", set_aside)))}
    json.dump({"kills": kills, "wrong": wrong}, sys.stdout)


if __name__ == "__main__":
    main()
