"""Instructions and worked examples of the adapter's version 3, by task type.

The first examples need no note, the last one does. The last two are shown at p = 0.5.
"""

from __future__ import annotations

from stackjax.agents.executor._examples import EXAMPLES, INSTRUCTIONS, Example

_PAGE = (
    "Amber Bridge: The Amber Bridge is a bridge in Larkfield. It was designed by the architect Ida "
    "Moss. My favourite drink is tea. A key costs 9 coins. The cook is Leo.",
)

RESEARCH_INSTRUCTIONS = INSTRUCTIONS | {
    "code_generation": "Write only the Python code, on one line.",
    "casual_chat": "Reply with the greeting and the name alone.",
    "simple_qa": "Answer in a few words. Copy them from the note if they are there.",
    "text_writing": "Write one short line.",
    "complex_reasoning": "Answer with one number.",
}
RESEARCH_EXAMPLES: dict[str, tuple[Example, ...]] = EXAMPLES | {
    "casual_chat": (
        Example((), "Say goodbye to Zoe.", "Goodbye, Zoe!"),
        Example(_PAGE, "Say goodbye to the cook by name.", "Goodbye, Leo!", find="cook"),
    ),
    "simple_qa": (
        Example((), "What is the capital of Norway?", "Oslo"),
        Example(_PAGE, "What is my favourite drink?", "tea", find="favourite drink"),
        Example(
            _PAGE,
            "Continue the sentence: was designed by the architect Ida",
            "was designed by the architect Ida Moss",
            find="designed by the architect Ida",
        ),
    ),
    "text_writing": (
        Example(
            (), "Write one short sentence with the words cat and moon.", "The cat sees the moon."
        ),
        Example(
            (),
            "Rewrite in the form name | age | city: Zoe is a cook from Milan and is 35 years old.",
            "Zoe | 35 | Milan",
        ),
        Example(
            _PAGE,
            "Write one short sentence about my favourite drink.",
            "I like tea very much.",
            find="favourite drink",
        ),
    ),
    "code_generation": (
        Example((), "Write a Python expression for: x times 5, plus 7", "x * 5 + 7"),
        Example((), "Write a Python expression for: x minus 3", "x - 3"),
        Example(
            _PAGE, "Write Python that prints the name of the cook.", 'print("Leo")', find="cook"
        ),
    ),
    "complex_reasoning": (
        Example((), "A tin holds 14 nuts. How many nuts do 6 tins hold?", "84", calc="14 * 6"),
        Example((), "Leo has 50 coins and pays 8. How many coins are left?", "42", calc="50 - 8"),
        Example(_PAGE, "How many coins do 3 keys cost?", "27", calc="9 * 3", find="key"),
    ),
}
