"""The agent by itself, in a process of its own, without a broker."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap

from trainq import config

# This machine's GPU, if it has one, is hidden.
PROBE = textwrap.dedent("""
    import sys
    from services.trainer import effects
    from services.trainer.app import Agent
    from trainq.service import run

    def probe(process):
        agent = Agent(process)
        agent.turn()
        agent._perform(agent._assignment._start())
        agent._control()
        sys.stdout.write(f"{agent._child.descriptors()} {process.state.value} {process.detail}\\n")
        agent.close()

    sys.exit(run("trainer", probe))
""")


def test_no_process_is_started_in_any_way_while_the_gpu_holds() -> None:
    with tempfile.TemporaryDirectory(prefix="tq", dir="/tmp") as folder:
        done = subprocess.run(
            [sys.executable, "-c", PROBE], cwd=config.project_root(), capture_output=True, text=True, check=False,
            env={**os.environ, "TRAINQ_HOME": f"{folder}/h", "TRAINQ_TRAINER_GPU": "required",
                 "CUDA_VISIBLE_DEVICES": ""})
    assert done.stdout.startswith("[] PAUSED there is no GPU, and one is required"), done.stderr
