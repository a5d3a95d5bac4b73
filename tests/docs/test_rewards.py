"""The page about rewards: its examples are right."""

import doctest

from tests.docs.test_docs import DOCS


def test_the_worked_examples_are_what_the_software_answers():
    failed, tried = doctest.testfile(
        str(DOCS / "explanation" / "rewards.md"), module_relative=False
    )
    assert (failed, tried) == (0, 22)
