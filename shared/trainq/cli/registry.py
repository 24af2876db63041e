"""Which module holds which command. Only the chosen command's module is imported."""

from __future__ import annotations

import importlib
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from trainq.cli.context import Context


class Entry(NamedTuple):
    """Where a command is and what it is for, as ``trainq --help`` shows it."""

    module: str
    summary: str


class Command(NamedTuple):
    """What a command's module gives: how its arguments are declared, and what it does (its exit code)."""

    configure: Callable[[ArgumentParser], None]
    run: Callable[[Namespace, Context], int]


# In the order in which people need them.
ENTRIES: Mapping[str, Entry] = {
    "submit": Entry("submitting", "accept files for training"),
    "validate": Entry("validating", "what would become of files, and what is wrong in them"),
    "preview": Entry("previewing", "rows as the model will see them, and what of them is trained"),
    "list": Entry("listing", "jobs, newest first"),
    "show": Entry("listing", "everything about one job"),
    "export": Entry("exporting", "the file of a job, as it was accepted"),
    "wait": Entry("waiting", "wait until jobs have ended"),
    "follow": Entry("following", "watch a job with a progress bar until it has ended"),
    "cancel": Entry("steering", "end jobs"),
    "release": Entry("steering", "train what is held for its quality all the same"),
    "retry": Entry("steering", "try again what was set aside or cancelled"),
    "skip": Entry("controlling", "end the job that runs, with or without what it has taught"),
    "checkpoint": Entry("controlling", "publish the state of the model with the next step"),
    "pause": Entry("controlling", "save what runs, and train nothing until resumed"),
    "yield": Entry("controlling", "pause for some time"),
    "drain": Entry("draining", "let the running training end, and none begin"),
    "stop": Entry("controlling", "save, give the job back, and do no more"),
    "lend": Entry("lending", "run a program with the GPU, between two train jobs"),
    "resume": Entry("controlling", "go on after a pause, a drain or a stop"),
    "status": Entry("overviewing", "the whole picture: queue, model, services"),
    "services": Entry("servicing", "start, stop, pause the services; how each of them is"),
    "why": Entry("overviewing", "why nothing is training, or what is"),
    "watch": Entry("watching", "all of it on one screen, as it changes"),
    "events": Entry("replaying", "what happened, from the journal"),
    "logs": Entry("logreading", "log lines of a service or of a job"),
    "metrics": Entry("measuring", "loss, learning rate and time of each step of a job"),
    "lineage": Entry("tracing", "what made a checkpoint; which hold a file, or saw a row"),
    "snapshot": Entry("snapshotting", "second copies of the model: take, list, prove, export"),
    "retention": Entry("retaining", "old copies of the model: what may go, the trash"),
    "generate": Entry("generating", "have a file made for the model to learn from"),
    "evaluate": Entry("scoring", "have a checkpoint scored"),
    "scores": Entry("scoring", "what each checkpoint scores, and what was forgotten"),
    "suites": Entry("suiting", "what the model is scored on"),
    "compare": Entry("comparing", "two checkpoints on the suites that both were scored on"),
    "champion": Entry("championing", "the checkpoint that was found best, and who was it when"),
    "promote": Entry("championing", "make a checkpoint champion"),
    "rollback": Entry("championing", "make the champion of before champion again"),
    "consolidate": Entry("consolidating", "merge the adapter (LoRA) into the weights under it"),
    "schedule": Entry("scheduling", "what is done by itself, and when"),
    "restore": Entry("restoring", "go on from an earlier state of the model"),
    "backup": Entry("backing", "the whole of it elsewhere, and back from there"),
    "fsck": Entry("checking", "prove journal, data and checkpoints; stop the broker"),
    "doctor": Entry("doctoring", "what is wrong with the installation, and its mend"),
    "bundle": Entry("doctoring", "a report without secrets, to send to who helps"),
    "config": Entry("configuring", "check or show the configuration"),
    "sample": Entry("sampling", "ask the trained model something"),
    "chaos": Entry("chaosing", "break a home of its own, and prove nothing is lost"),
    "completion": Entry("completion", "what makes Tab work in bash, zsh and fish"),
    "version": Entry("versioning", "the version of trainq"),
}


def load(name: str) -> Command:
    """The command ``name``, from its module."""
    module = importlib.import_module(f"trainq.cli.{ENTRIES[name].module}")
    commands: Mapping[str, Command] = module.COMMANDS
    return commands[name]
