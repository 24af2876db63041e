"""The whole system on a GPU: killed and killed again it ends with the undisturbed bits; one process holds the GPU."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from installations import ROOT, Installation, wait_for
from trainq import checkpoints
from trainq.chaos.processes import FORK_SERVER, TRAINING

pytestmark = [pytest.mark.gpu, pytest.mark.slow, pytest.mark.timeout(300)]

AGENT = "trainer"
CHECKPOINT_STEPS = 20
EPOCHS = 30  # so many that the steps outlast the kills
SETTINGS = {"TRAINQ_TRAIN_THREADS": "1", "TRAINQ_TRAIN_MICRO_BATCH_ROWS": "8",
            "TRAINQ_TRAIN_CHECKPOINT_STEPS": str(CHECKPOINT_STEPS)}
KILLS = (TRAINING, AGENT, TRAINING, FORK_SERVER, TRAINING, AGENT, TRAINING, TRAINING)
# Steps past the newest checkpoint when a kill comes, at least: they are lost and done again.
LOST_STEPS = 3
# Whoever has a CUDA context has this open. (Asking how many GPUs there are opens others, and makes none.)
CONTEXT = "/dev/nvidia-uvm"
Record = Callable[[str, object], None]


def pid_of(installation: Installation, role: str) -> int:
    """The pid of the only process of this role; 0 if none or, for a moment, two run."""
    pids = [seen.pid for seen in installation.processes() if seen.role == role]
    return pids[0] if len(pids) == 1 else 0


def newest(installation: Installation) -> checkpoints.Name:
    """The newest generation; that of no number before there is one."""
    found = checkpoints.list_generations(installation.home.checkpoints)
    return checkpoints.parse_name(found[0].name) or checkpoints.Name(0, 0) if found else checkpoints.Name(0, 0)


def steps_done(installation: Installation) -> int:
    """The line's step by the newest whole line of the metrics."""
    steps = [0]
    for path in installation.home.metrics.glob("*.jsonl"):
        lines = path.read_bytes().rpartition(b"\n")[0].splitlines()
        steps += [msgspec.json.decode(lines[-1])["step"]] if lines else []
    return max(steps)


def opened_devices(pid: int) -> set[str]:
    """The GPU's devices that a process has open."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add(str(entry.readlink()))
        except FileNotFoundError:  # closed meanwhile
            continue
    return {name for name in found if name.startswith("/dev/nvidia")}


def used_mib(pid: int) -> int:
    """The GPU memory of a process, as the driver counts it; 0 if it does not know the process."""
    listed = subprocess.run(["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"],
                            capture_output=True, text=True, check=True, timeout=60).stdout
    lines = [line.split(",") for line in listed.splitlines() if line.strip()]
    return sum(int(used) for found, used in lines if int(found) == pid)


def submit(installation: Installation, *names: str, epochs: int) -> None:
    for name in names:
        installation.trainq("submit", str(ROOT / "examples" / name), "--epochs", str(epochs))


def wait_until_it_trains(installation: Installation) -> int:
    """Until a checkpoint is there that was not before, and steps behind it; the pid of the training process."""
    before = newest(installation)

    def trains() -> bool:
        now = newest(installation)
        return now > before and steps_done(installation) >= now.step + LOST_STEPS

    wait_for(trains, "a checkpoint, and steps behind it", 120)
    pid: int = wait_for(lambda: pid_of(installation, TRAINING), "the training process runs")
    return pid


def kill(installation: Installation, role: str) -> int:
    """kill -9 the process of this role; how many steps are lost by that."""
    pid = wait_for(lambda: pid_of(installation, role), f"{role} runs")
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: pid not in {seen.pid for seen in installation.processes()}, f"{role} has ended")
    return steps_done(installation) - newest(installation).step


def test_killed_again_and_again_it_ends_with_the_undisturbed_bits(gpu: str, installation: Installation,
                                                                  record_property: Record) -> None:
    started = time.monotonic()
    installation.settings = dict(SETTINGS)
    installation.start()
    installation.wait_answers()
    submit(installation, "chat.jsonl", "prompt-completion.jsonl", epochs=EPOCHS)
    lost = []
    for role in KILLS:
        wait_until_it_trains(installation)
        lost.append(kill(installation, role))
    wait_for(lambda: len(installation.jobs("succeeded")) == 2, "both are trained", 120)
    installation.stop()
    lived = time.monotonic() - started

    facts = checkpoints.verify(checkpoints.list_generations(installation.home.checkpoints)[0]).facts
    assert facts.fingerprint["device"] == gpu
    driver = installation.folder / "driver"
    home = str(installation.home.root)
    derived = installation.run("-m", "trainq.ml.rederiving", "--home", home, "--into", str(driver), seconds=200)
    assert derived.returncode == 0, derived.stderr[-3000:]
    checked = installation.run("-m", "trainq_checker", home, "--driver", str(driver), "--strict", seconds=120)
    for name, value in {"gpu": gpu, "fingerprint": facts.fingerprint, "steps": facts.step, "kills": KILLS,
                        "lost_steps": lost, "seconds": round(lived, 1), "checker": checked.stdout,
                        "seconds_with_proof": round(time.monotonic() - started, 1)}.items():
        record_property(name, value)
    assert checked.returncode == 0, checked.stdout
    ours, theirs = (checkpoints.list_generations(folder)[0]
                    for folder in (installation.home.checkpoints, driver / "checkpoints"))
    for name in ("model.safetensors", "optimizer.safetensors", "rng.safetensors", "ledger.bin"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name


def test_only_the_training_process_has_the_gpu_and_lets_it_go(installation: Installation,
                                                              record_property: Record) -> None:
    installation.settings = dict(SETTINGS)
    installation.start()
    installation.wait_answers()
    submit(installation, "chat.jsonl", epochs=100)
    training = wait_until_it_trains(installation)
    opened = {seen.role: opened_devices(seen.pid) for seen in installation.processes()}
    used = used_mib(training) if shutil.which("nvidia-smi") else 0
    libraries = Path(f"/proc/{pid_of(installation, AGENT)}/maps").read_text()
    record_property("opened", {role: sorted(names) for role, names in opened.items()})
    record_property("used_mib", used)
    assert CONTEXT in opened[TRAINING]
    assert CONTEXT not in opened[FORK_SERVER], "a child could not use the GPU"
    assert {role for role, names in opened.items() if names} <= {TRAINING, FORK_SERVER}
    assert "libtorch" not in libraries
    assert "libcuda" not in libraries

    installation.control("stop", "trainer")
    left = {seen.role: opened_devices(seen.pid) for seen in installation.processes()}
    assert not left.keys() & {TRAINING, FORK_SERVER, AGENT}
    assert not any(left.values())
    if used:  # in a container the driver may not know our pids
        wait_for(lambda: used_mib(training) == 0, "the driver has taken its memory back", 30)
