"""Instructions and worked examples of the prompts, by task type, or by family where it has its own.

Instructions alone did nothing for a small model, or harm when they quoted a pattern (it copied
the pattern), so that the middle level of the prompt channel carries one worked example.
"""

from __future__ import annotations

from typing import NamedTuple

TERSE = "Answer briefly."
INSTRUCTIONS = {
    "casual_chat": "Reply with the greeting and the user's name from the notes.",
    "simple_qa": "Answer with one short sentence. Copy the fact from the notes if it is there.",
    "text_writing": "Write one line, exactly in the form that is asked for.",
    "code_generation": "Write only the expression, on one line.",
    "data_analysis": "Copy the one row of the notes that answers the question.",
    "complex_reasoning": "Answer with one number. Take the prices and sales from the notes.",
    "word_problem": "Solve the problem in a few short lines. End with: Answer: <number>",
    "documents": "Answer the question from the passages, with the name, date or number alone.",
}
CALC = "To calculate, write CALC: and the numbers, like this: CALC: 12 * 7"
FIND = "If a note is missing, write FIND: and the words, like this: FIND: favourite drink"
LOOK_UP = frozenset({"simple_qa", "data_analysis", "complex_reasoning", "documents"})
# A full prompt asks for reasoning at length instead of showing examples, which shorten it.
AT_LENGTH = {"word_problem": "Solve the problem step by step. End with: Answer: <number>"}
REPLY_TOKENS = {"word_problem": (120, 320)}


class Example(NamedTuple):
    """A worked example.

    With two calls allowed `find` looks the notes up; with one, `calc` is computed. `steps` is the
    answer where no call is allowed, if it differs. `kind` is what the notes are.
    """

    notes: tuple[str, ...]
    question: str
    answer: str
    calc: str = ""
    find: str = ""
    steps: str = ""
    kind: str = "note"


_FACTS = ("My favourite drink is tea.", "My cat's name is Momo.")
_ROWS = ("On Sunday 17 rings were sold.", "On Saturday 33 rings were sold.")
_PRICES = ("A key costs 9 coins.", "A mug costs 5 coins.")
_BRIDGE = (
    "Amber Bridge: The Amber Bridge is a bridge in Larkfield. It was designed by Ida Moss.",
    "Ida Moss: Ida Moss (born 1931 in Petersgate) was an architect and painter.",
)
_LAKES = (
    "Lake Orrin: Lake Orrin is a lake in the north of Velmark.",
    "Lake Sund: Lake Sund is a lake in the south of Tarn.",
)
_FORM = "Rewrite in the form name | age | city: Zoe is a cook from Milan and is 35 years old."

EXAMPLES: dict[str, tuple[Example, ...]] = {
    "casual_chat": (
        Example(("My name is Zoe.",), "Say hello to me by my name.", "Hello, Zoe!"),
        Example(("My name is Leo.",), "Say goodbye to me by my name.", "Goodbye, Leo!"),
    ),
    "simple_qa": (
        Example(_FACTS, "What is my cat's name?", "Your cat's name is Momo.", find="cat name"),
        Example((), "What is the capital of Norway?", "The capital of Norway is Oslo."),
        Example(_FACTS, "What is my favourite drink?", "Your favourite drink is tea."),
    ),
    "text_writing": (
        Example(
            (), "Write one short sentence with the words cat and moon.", "The cat sees the moon."
        ),
        Example((), _FORM, "Zoe | 35 | Milan"),
    ),
    "code_generation": (
        Example((), "Write a Python expression for: x times 5, plus 7", "x * 5 + 7"),
        Example((), "Write a Python expression for: x minus 3", "x - 3"),
    ),
    "data_analysis": (
        Example(_ROWS, "On which day were 17 rings sold?", "On Sunday 17 rings were sold."),
        Example(
            _ROWS,
            "How many rings were sold on Saturday?",
            "On Saturday 33 rings were sold.",
            find="rings Saturday",
        ),
    ),
    "complex_reasoning": (
        Example((), "Leo has 50 coins and pays 8. How many coins are left?", "42", calc="50 - 8"),
        Example(_PRICES, "How many coins do 3 keys cost?", "27", calc="9 * 3", find="key"),
        Example((), "A tin holds 14 nuts. How many nuts do 6 tins hold?", "84", calc="14 * 6"),
    ),
    "word_problem": (
        Example(
            (),
            "A hall has 12 rows of 9 seats. 24 seats are broken. Half of the others are taken. "
            "How many seats are still free?",
            "42",
            calc="(12 * 9 - 24) / 2",
            steps="Seats: 12 * 9 = 108\nNot broken: 108 - 24 = 84\nFree: 84 / 2 = 42\nAnswer: 42",
        ),
    ),
    "documents": (
        Example(
            _LAKES,
            "Are Lake Orrin and Lake Sund in the same country?",
            "no",
            kind="passage",
        ),
        Example(
            _BRIDGE,
            "In which town was the designer of the Amber Bridge born?",
            "Petersgate",
            kind="passage",
        ),
    ),
}
