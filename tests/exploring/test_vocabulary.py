"""Words that a prior was not trained on."""

import pytest

from xpsr_cli.exploring.vocabulary import in_words, unknown_words, words_of


def test_words_come_once_in_their_order():
    assert words_of("A red-brick house, a RED door; 4x4 and Müller's café") == [
        "a",
        "red-brick",
        "house",
        "red",
        "door",
        "x",
        "and",
        "müller's",
        "café",
    ]


@pytest.mark.parametrize(
    ("prompt", "unknown"),
    [
        ("", []),
        ("a house by the sea", ["sea"]),
        ("Stone-house", []),
        ("zebra, Zebra and a quagga", ["zebra", "quagga"]),
        ("a tall tree", []),
    ],
)
def test_what_the_vocabulary_does_not_have(prompt, unknown):
    assert unknown_words(prompt, ["House", "stone", "a tall tree"]) == unknown


def test_no_vocabulary_has_no_limits():
    assert unknown_words("anything at all", []) == []


def test_long_vocabularies_are_cut_short():
    assert in_words(["a", "b"]) == "a, b"
    assert in_words([str(number) for number in range(100)]).endswith("59 and 40 more")
