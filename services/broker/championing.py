"""The champion, by hand: promoted, rolled back; and the suites, locked anew. Inside the desk's transaction."""

from __future__ import annotations

from services.broker import judging
from services.broker.blaming import not_the_journals
from services.broker.learned import Learned
from services.broker.recording import Recorder
from trainq import checkpoints, messages
from trainq.config import Configuration
from trainq.errors import DamageError, NewerFormatError, NotFoundError, UsageError
from trainq.jobs import ChampionMove, Store, SuiteLocked
from trainq.journal import Journal, Queries, learning
from trainq.messages import Done

READS = (messages.GetLearning, messages.GetScores, messages.GetChampions)
REQUESTS = (messages.Promote, messages.RollBack, messages.LockSuite)
_BY_A_PERSON = "a person"


class Champions:
    """Answers :data:`REQUESTS`."""

    def __init__(self, journal: Journal, queries: Queries, recorder: Recorder, configuration: Configuration) -> None:
        self._journal = journal
        self._queries = queries
        self._recorder = recorder
        self._folder = configuration.home.checkpoints
        self._settings = configuration.settings.promotion

    def answer(self, request: messages.AnyRequest) -> Done:
        """The reply to one of :data:`REQUESTS`."""
        match request:
            case messages.Promote():
                return self._promote(request)
            case messages.RollBack():
                return self._roll_back(request)
            case messages.LockSuite():
                if learning.known(self._journal.connection).locks.get(request.suite) == request.digest:
                    return Done(changed=False, seq=self._journal.head_seq)
                return self._recorder.record(SuiteLocked(suite=request.suite, digest=request.digest,
                                                         reason=request.reason))
            case _:
                raise UsageError(f"{type(request).__name__} is not known here")

    def _promote(self, request: messages.Promote) -> Done:
        known = learning.known(self._journal.connection)
        wanted = request.checkpoint
        if wanted is None:
            wanted = known.proposal
            # The very same request again, whose reply was lost.
            if not wanted and known.champion is not None and known.champion.how is ChampionMove.APPROVED:
                return Done(changed=False, seq=self._journal.head_seq)
            if not wanted:
                raise UsageError("no checkpoint is proposed", mend="name one: trainq promote g000042-s00001200")
        judged = learning.judgement(self._journal.connection, wanted)
        approved = judged is not None and judged.outcome == "propose" and judged.champion == known.champion_name
        return self._move(known, wanted, ChampionMove.APPROVED if approved else ChampionMove.BY_HAND, request.reason)

    def _roll_back(self, request: messages.RollBack) -> Done:
        known = learning.known(self._journal.connection)
        moves = learning.champions(self._journal.connection, limit=learning.MOST_MOVES)
        wanted = request.to
        if all(wanted not in (move.checkpoint, move.before) for move in moves):
            raise UsageError(f"{wanted} was never champion", mend="trainq champion --history shows who was; "
                             f"trainq promote {wanted} makes it so")
        return self._move(known, wanted, ChampionMove.ROLLED_BACK, request.reason)

    def _move(self, known: learning.Known, wanted: str, how: ChampionMove, reason: str) -> Done:
        if wanted == known.champion_name:
            return Done(changed=False, seq=self._journal.head_seq)
        self._refuse_unfit(wanted)
        return self._recorder.record(*judging.move(wanted, known.champion_name, how, reason, _BY_A_PERSON,
                                                   self._settings, self._queries.line()))

    def _refuse_unfit(self, name: str) -> None:
        with not_the_journals(f"looking at {name}"):
            in_trash = self._queries.removal_in_trash(Store.CHECKPOINTS, name) is not None
            if in_trash or not (self._folder / name).is_dir():
                raise NotFoundError(f"there is no {name} in checkpoints/",
                                    mend="trainq retention trash shows what is in the trash")
            try:
                facts = checkpoints.read_facts(self._folder / name)
            except (DamageError, NewerFormatError) as error:
                raise UsageError(f"{name} cannot be read: {error}") from error
        if facts.is_bad:
            raise UsageError(f"the state of {name} is marked: {', '.join(facts.marks)}",
                             mend="a marked state never becomes champion")


def read(journal: Journal, queries: Queries, learned: Learned, request: messages.AnyRequest) -> messages.AnyReply:
    """The reply to one of :data:`READS`."""
    connection = journal.connection
    match request:
        case messages.GetScores():
            return messages.Scores(scores=learning.scores(
                connection, checkpoint=request.checkpoint, suite=request.suite,
                after=(request.after_checkpoint, request.after_suite), limit=request.limit))
        case messages.GetChampions():
            return messages.Champions(champions=learning.champions(
                connection, before_seq=request.before_seq, limit=request.limit))
        case messages.GetLearning():
            known, line = learned.known(), queries.line()
            return messages.Learning(
                champion=known.champion, previous=known.previous, judgement=known.judgement,
                proposal=known.proposal, levels=known.levels,
                level_suites=known.level_suites, locks=known.locks,
                judged=tuple(learning.judged_levels(connection, request.weights)) if request.weights else (),
                checkpoint=line.checkpoint, trained=learned.trained_count())
        case _:
            raise UsageError(f"{type(request).__name__} is not known here")
