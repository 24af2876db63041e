"""Whoever may reach the sockets may send what they like: the broker goes on, and its good clients are answered."""

from pathlib import Path
from tempfile import TemporaryDirectory

from tests.faults.hostile_peers import campaign, endless_message


def test_the_broker_outlives_every_attack() -> None:
    with TemporaryDirectory(prefix="tq", dir="/tmp") as folder:  # short: a socket's path has 107 bytes
        found = campaign(Path(folder))
    assert {name: result for name, result in found.items() if result["wrong"]} == {}


def test_a_message_without_an_end_is_not_kept_for_ever() -> None:
    with TemporaryDirectory(prefix="tq", dir="/tmp") as folder:
        found = endless_message(Path(folder))
    assert found["wrong"] == []
    assert found["mib"] < 600, "the ceiling is 512 MiB"
