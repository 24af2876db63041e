"""Judging an answer to a puzzle by the question alone: no reference is asked for.

A clue of the list means its word. Another clue (of a puzzle that came before this project) is judged by structure: as
many tiles as blanks, all of them from the bank, and together the answer. So it is said which slots are *unknown*: any
tiles of the bank would do there, and who knows their words says them. *Exact* is an answer that does all that the
output contract says. Any other has *credit* for each slot with the right word, as far as words can be found in it:
:data:`MOST_WITHOUT_CONTRACT` times their share. Two entries for one slot have none, so guessing more than once is worth
nothing.

It never raises, whatever the texts are, and looks at no more than :data:`MAX_CHARACTERS` of an answer.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from trainq.syllo import texts, words
from trainq.syllo.texts import Asked, Slot
from trainq.syllo.words import Word

MOST_WITHOUT_CONTRACT = 0.9
# The longest right answer has about 1,500.
MAX_CHARACTERS = 32_768
_MOST_FAULTS = 12
_SHOWN_CHARACTERS = 40
# An answer with words around its object: at so many of its braces the object is looked for.
_BRACES = 16
_NO_WORDS: Mapping[int, str] = MappingProxyType({})
_KEYS = frozenset({"solutions", "inventory_check"})
_ENTRY_KEYS = frozenset({"ans_num", "syllables", "answer"})
_INVENTORY_KEYS = frozenset({"total_tiles", "usage", "used", "unused_tiles", "status"})


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer is worth: ``credit`` from 0 to 1, and 1 only where it is ``exact``; ``faults`` for people.

    ``unknown`` are the numbers of the slots whose word nobody knew.
    """

    exact: bool
    credit: float
    faults: tuple[str, ...]
    unknown: tuple[int, ...] = ()


def check(puzzle_text: str, answer_text: str, words_of_slots: Mapping[int, str] = _NO_WORDS) -> Verdict:
    """Judge an answer; see the module.

    Args:
        puzzle_text: what the user says.
        answer_text: what is to be judged.
        words_of_slots: the words that whoever asks knows, by the numbers of their slots. They are demanded where the
            list does not know the clue.
    """
    asked = texts.read(puzzle_text)
    if isinstance(asked, str):
        return _nothing(f"the question is no SYLLO puzzle: {asked}")
    known = {number: word.word for number, slot in enumerate(asked.slots, 1) if (word := _known(asked, slot))}
    unknown = tuple(number for number in range(1, len(asked.slots) + 1)
                    if number not in known and number not in words_of_slots)
    verdict = _judge(asked, answer_text, words_of_slots)
    return msgspec.structs.replace(verdict, unknown=unknown)


def words_of(answer_text: str) -> dict[int, str]:
    """The word that an answer has for each slot that it has one entry for, as it stands there."""
    found, _ = _object(answer_text) if len(answer_text) <= MAX_CHARACTERS else (None, [])
    entries = found.get("solutions") if found is not None else None
    said = [(entry.get("ans_num"), entry.get("answer")) for entry in entries if isinstance(entry, dict)] \
        if isinstance(entries, list) else []
    numbers = Counter(number for number, _ in said if type(number) is int)
    return {number: word for number, word in said
            if type(number) is int and numbers[number] == 1 and isinstance(word, str)}


def _judge(asked: Asked, answer_text: str, words_of_slots: Mapping[int, str]) -> Verdict:
    if len(answer_text) > MAX_CHARACTERS:
        return _nothing(f"the answer is longer than {MAX_CHARACTERS} characters")
    found, faults = _object(answer_text)
    if found is None:
        return _nothing(*faults)
    faults += _keys(found, _KEYS, "the answer")
    entries = found.get("solutions")
    if not isinstance(entries, list):
        return _nothing(*faults, "solutions is no list")
    right = _judge_solutions(asked, entries, words_of_slots, faults)
    used = Counter(tile for entry in entries for tile in _tiles(entry))
    faults += _tile_faults(asked, used)
    faults += _inventory_faults(asked, used, found.get("inventory_check"))
    if not faults:
        return Verdict(exact=True, credit=1.0, faults=())
    return Verdict(exact=False, credit=MOST_WITHOUT_CONTRACT * (right / len(asked.slots)),
                   faults=tuple(faults[:_MOST_FAULTS]))


def _nothing(*faults: str) -> Verdict:
    return Verdict(exact=False, credit=0.0, faults=faults[:_MOST_FAULTS])


def _object(text: str) -> tuple[dict[str, Any] | None, list[str]]:
    """The answer's object, and what is wrong with the text that it is in."""
    decoder = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_refuse)
    start, end = text.find("{"), 0
    for _ in range(_BRACES):
        if start < 0:
            break
        try:
            found, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):  # also a number of more digits than Python takes
            found = None
        if isinstance(found, dict) and "solutions" in found:
            around = text[:start].strip() or text[end:].strip()
            return found, ["there is something around the JSON object"] if around else []
        start = text.find("{", start + 1)
    return None, ["there is no JSON object with solutions in it"]


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key comes twice, and readers differ in which of them counts")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _keys(found: dict[str, Any], wanted: frozenset[str], who: str) -> list[str]:
    missing = [f"{who} has no {key}" for key in sorted(wanted - found.keys())]
    return missing + [f"{who} has a key {_shown(key)}, which the contract does not name"
                      for key in sorted(found.keys() - wanted)]


def _judge_solutions(asked: Asked, entries: list[Any], words_of_slots: Mapping[int, str], faults: list[str]) -> int:
    """How many slots have the right word; what is wrong is added to ``faults``."""
    answered: dict[int, list[dict[str, Any]]] = {number: [] for number in range(1, len(asked.slots) + 1)}
    order: list[int] = []
    for entry in entries:
        number = entry.get("ans_num") if isinstance(entry, dict) else None
        if type(number) is int and number in answered:  # True is an int, too
            answered[number].append(entry)
            order.append(number)
        else:
            faults.append(f"an entry of solutions is for no slot: {_shown(entry)}")
    if order != sorted(order):
        faults.append("the entries of solutions are not in the order of the slots")
    right = 0
    for number, slot in enumerate(asked.slots, start=1):
        if len(answered[number]) != 1:
            faults.append(f"slot {number} has {len(answered[number]) or 'no'} entries")
            continue
        is_right, wrong = _judge_entry(asked, slot, answered[number][0], words_of_slots.get(number))
        right += is_right
        faults += [f"slot {number}: {fault}" for fault in wrong]
    return right


def _judge_entry(asked: Asked, slot: Slot, entry: dict[str, Any], given: str | None) -> tuple[bool, list[str]]:
    """Whether it has the right word, and what the contract has against it. ``given`` counts if the list has none."""
    faults = _keys(entry, _ENTRY_KEYS, "it")
    said, tiles = entry.get("answer"), list(_tiles(entry))
    if not isinstance(said, str):
        return False, [*faults, "answer is no string"]
    if said != said.upper():
        faults.append(f"{_shown(said)} is not in capitals")
    laid = "".join(tiles)
    if tiles != entry.get("syllables"):
        faults.append("syllables is no list of tiles")
    elif laid != said.lower():
        faults.append(f"{_shown(said)} is not what its tiles are together, {_shown(laid)}")
    word = _known(asked, slot)
    if word is None:
        fits = len(tiles) == slot.blanks and set(tiles) <= set(asked.bank)
        if not fits:
            faults.append(f"it takes {slot.blanks} tiles of the bank, not {_shown(tiles)}")
        if given is not None and said.lower() != given.lower():
            return False, [*faults, f"{_shown(said)} is not the word that is known of the slot"]
        return fits and laid == said.lower(), faults
    if said.lower() != word.word:
        return False, [*faults, f"{_shown(said)} is not the word of the clue"]
    if tuple(tiles) != word.syllables:
        faults.append(f"{_shown(tiles)} are not the syllables of {said}")
    return True, faults


def _known(asked: Asked, slot: Slot) -> Word | None:
    """The word that the clue means, if the list knows it and the bank has its tiles."""
    word = words.by_clue().get(slot.clue)
    if word is None or len(word.syllables) != slot.blanks or not Counter(word.syllables) <= Counter(asked.bank):
        return None
    return word


def _tiles(entry: Any) -> Iterator[str]:
    """The tiles of an entry, as far as it has some."""
    syllables = entry.get("syllables") if isinstance(entry, dict) else None
    if isinstance(syllables, list):
        yield from (tile for tile in syllables if isinstance(tile, str))


def _tile_faults(asked: Asked, used: Counter[str]) -> list[str]:
    bank = Counter(asked.bank)
    return [f"the tile {_shown(tile)} is used {count} times, and is in the bank {bank[tile]} times"
            for tile, count in used.items() if count > bank[tile]]


def _inventory_faults(asked: Asked, used: Counter[str], inventory: Any) -> list[str]:
    if not isinstance(inventory, dict):
        return ["inventory_check is no object"]
    faults = _keys(inventory, _INVENTORY_KEYS, "inventory_check")
    bank = Counter(asked.bank)
    total, status, unused = inventory.get("total_tiles"), inventory.get("status"), inventory.get("unused_tiles")
    if type(total) is not int or total != len(asked.bank):
        faults.append(f"total_tiles is {_shown(total)}, and the bank has {len(asked.bank)}")
    for key, wanted in (("usage", bank), ("used", used)):
        if not _same_counts(inventory.get(key), wanted):
            faults.append(f"{key} is not what {'the bank has' if key == 'usage' else 'the solutions use'}")
    left = sorted((bank - used).elements())
    if not isinstance(unused, list) or not all(isinstance(tile, str) for tile in unused) or sorted(unused) != left:
        faults.append(f"unused_tiles is not what is left, {_shown(left)}")
    if not isinstance(status, str) or not status.strip():
        faults.append("status is no sentence")
    return faults


def _same_counts(said: Any, wanted: Counter[str]) -> bool:
    return isinstance(said, dict) and said == dict(wanted) and all(type(count) is int for count in said.values())


def _shown(thing: Any) -> str:
    try:
        text = repr(thing)
    except (ValueError, RecursionError):  # a number too long to write, lists too deep
        return "something"
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
