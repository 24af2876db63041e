"""The generator of puzzles: rows that a checker finds exact, the same for ever, no two alike."""

from blake3 import blake3

from trainq.generating import producing
from trainq.generating.base import GenerateRequest
from trainq.generating.syllo import Syllo
from trainq.syllo import checking


def wanted(count: int, level: int, seed: int) -> GenerateRequest:
    return GenerateRequest(count=count, level=level, seed=seed)


def test_a_row_is_a_puzzle_with_its_solution_and_where_it_comes_from() -> None:
    for row in Syllo().rows(wanted(3, 8, 5)):
        question, answer = (message["content"] for message in row["messages"])
        assert checking.check(question, answer).exact
        metadata = row["metadata"]
        assert list(metadata) == [
            "dataset", "generator", "generator_version", "level", "seed", "sample_index", "puzzle_id", "difficulty",
            "word_count", "syllable_bank_size", "red_herring_count", "rules", "difficulty_config", "red_herrings",
            "words"]
        assert (metadata["dataset"], metadata["level"], metadata["seed"]) == ("syllo", 8, 5)
        assert metadata["puzzle_id"] == f"syllo_l08_s5_{metadata['sample_index']:05d}"


def test_no_two_puzzles_of_a_file_have_the_same_words_and_few_of_two_seeds() -> None:
    def sets(seed: int) -> list[frozenset[str]]:
        return [frozenset(word["label"] for word in row["metadata"]["words"])
                for row in Syllo().rows(wanted(120, 1, seed))]

    one, other = sets(1), sets(2)
    assert len(set(one)) == len(one) == 120
    assert len(set(one) & set(other)) < 6


def test_fewer_rows_are_the_first_of_more() -> None:
    few, many = (list(producing.rows(Syllo(), wanted(count, 2, 9))) for count in (3, 6))
    assert many[:3] == few


def test_the_bytes_are_the_same_on_every_machine_as_long_as_the_version_is() -> None:
    """Who changes what is made of a seed (the words, the format) gives the generator another version."""
    assert Syllo.version == "1"
    assert blake3(b"".join(row.line for level in range(1, 11) for row in producing.rows(Syllo(), wanted(3, level, 42)))
                  ).hexdigest() == "27c5050e7479d57ffdce31a0c32f5f0f1f39a495b27074f0e3987d9de7017ae8"
