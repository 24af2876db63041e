"""What retention would do now, and what lies in the trash: for the command line and HTTP alike. Changes nothing."""

from __future__ import annotations

import time

import msgspec

from trainq.client import BrokerClient
from trainq.config import Home, RetentionSettings
from trainq.ids import new_request_id
from trainq.jobs import RemovalView
from trainq.messages import GetKept, GetUsedShards, Kept, UsedShards
from trainq.retention import leftovers, rules, stock
from trainq.retention.rules import Verdict


class RetentionPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What would stay and what would go, with the reasons.

    ``going`` copies would free ``freed_bytes``; and so many ``shards`` that no job needs, ``shard_bytes``. The home
    takes ``excess_bytes`` too much now.
    """

    copies: list[Verdict]
    going: int
    freed_bytes: int
    excess_bytes: int
    shards: int
    shard_bytes: int


def retention_plan(broker: BrokerClient, home: Home, settings: RetentionSettings) -> RetentionPlan:
    """Reads all manifests, and the sizes of all files of the home."""
    excess = stock.excess_bytes(home, settings)
    shards = leftovers.spare_shards(home, settings, time.time(), excess, lambda names: _used(broker, names))
    shard_bytes = sum(shard.size_bytes for shard in shards)
    planned = rules.plan(stock.read(home, _kept(broker), settings.best_metric), settings)
    verdicts = list(rules.fit(planned, max(0, excess - shard_bytes)))
    going = [verdict.item.size_bytes for verdict in verdicts if not verdict.keep]
    return RetentionPlan(copies=verdicts, going=len(going), freed_bytes=sum(going), excess_bytes=excess,
                         shards=len(shards), shard_bytes=shard_bytes)


def trash(broker: BrokerClient) -> list[RemovalView]:
    """What lies in the trash, the newest first."""
    return [removal for removal in _kept(broker).removals if removal.state == "trash"]


def _kept(broker: BrokerClient) -> Kept:
    return broker.call(GetKept(request_id=new_request_id()), Kept)


def _used(broker: BrokerClient, names: tuple[str, ...]) -> set[str]:
    return set(broker.call(GetUsedShards(request_id=new_request_id(), shards=names), UsedShards).shards)
