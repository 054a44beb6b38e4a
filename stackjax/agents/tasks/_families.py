"""Generators of single turns, one for each family, over the facts that a session has told so far.

Each generator takes the session's `World` and the turn's position, adds new facts to the world and
returns ``(notes, question, gold, check, complexity, reference)``, the fields of a `Turn`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

Made = tuple[tuple[str, ...], str, str, str, float, str]

_NAMES = "Anna Ben Carla David Emma Frank Grace Henry Ivan Julia Kate Liam Maria Nora Oscar Paul"
_NAMES = (_NAMES + " Rosa Sam Tina Victor").split()
_ATTRIBUTES = {
    "favourite colour": "red blue green yellow purple white".split(),
    "favourite food": "pizza rice soup bread cheese pasta".split(),
    "favourite animal": "dog lion horse rabbit tiger owl".split(),
    "home town": "Rome Paris London Madrid Berlin Vienna".split(),
    "job": "nurse teacher pilot baker farmer doctor".split(),
    "sister's name": "Alice Bella Diana Fiona Helen Laura".split(),
    "brother's name": "Adam Eric George Jack Peter Tom".split(),
    "birthday month": "January March April June August October".split(),
    "favourite sport": "tennis football chess golf hockey boxing".split(),
}
_THINGS = "pen book lamp chair cup bag hat ball clock shirt".split()
_DAYS = "Monday Tuesday Wednesday Thursday Friday".split()
_CITIES = "Rome Paris London Madrid Berlin Vienna Dublin Oslo Athens Lisbon".split()
_JOBS = "nurse teacher pilot baker farmer doctor painter driver".split()
_GOODS = "apples tickets cars books coffees shoes lamps phones".split()
_WORDS = "river boat dog house tree rain sun bird garden train snow horse".split()
_CAPITALS = {
    "France": "Paris",
    "Italy": "Rome",
    "Germany": "Berlin",
    "Spain": "Madrid",
    "Japan": "Tokyo",
    "China": "Beijing",
    "England": "London",
    "Russia": "Moscow",
    "Greece": "Athens",
    "Egypt": "Cairo",
    "Austria": "Vienna",
    "Ireland": "Dublin",
    "Portugal": "Lisbon",
    "Sweden": "Stockholm",
    "Poland": "Warsaw",
    "Hungary": "Budapest",
}
_OPPOSITES = {
    "hot": "cold",
    "big": "small",
    "up": "down",
    "day": "night",
    "fast": "slow",
    "happy": "sad",
    "open": "closed",
    "early": "late",
    "left": "right",
    "old": "new",
}


@dataclass
class World:
    """What the user has told so far; every dict keeps the order of telling."""

    rng: random.Random
    profile: dict[str, str] = field(default_factory=dict)
    prices: dict[str, int] = field(default_factory=dict)
    tables: dict[str, dict[str, int]] = field(default_factory=dict)
    user: str | None = None

    def tell_profile(self) -> tuple[str, ...]:
        """Tells two attributes of the user, not told before while there are any."""
        free = [name for name in _ATTRIBUTES if name not in self.profile]
        names = self.rng.sample(free if len(free) >= 2 else list(_ATTRIBUTES), 2)
        for name in names:
            self.profile.pop(name, None)
            self.profile[name] = self.rng.choice(_ATTRIBUTES[name])
        return tuple(f"My {name} is {self.profile[name]}." for name in names)

    def tell_price(self) -> tuple[str, ...]:
        """Prices one thing not priced before, in coins."""
        free = [thing for thing in _THINGS if thing not in self.prices] or _THINGS
        thing = self.rng.choice(free)
        self.prices.pop(thing, None)
        self.prices[thing] = self.rng.randint(3, 29)
        return (f"A {thing} costs {self.prices[thing]} coins.",)

    def tell_table(self) -> tuple[str, ...]:
        """Tells a table of three days for one kind of goods, a row a note."""
        free = [goods for goods in _GOODS if goods not in self.tables] or _GOODS
        goods = self.rng.choice(free)
        days = sorted(self.rng.sample(range(len(_DAYS)), 3))
        self.tables.pop(goods, None)
        self.tables[goods] = {_DAYS[day]: self.rng.randint(11, 98) for day in days}
        return tuple(f"On {day} {n} {goods} were sold." for day, n in self.tables[goods].items())

    def tell_user(self) -> tuple[str, ...]:
        """Tells the user's name."""
        self.user = self.rng.choice(_NAMES)
        return (f"My name is {self.user}.",)


def _recall(world: World, position: int) -> Made:
    rng = world.rng
    old = bool(world.profile) and rng.random() < 0.6
    name = rng.choice(list(world.profile)) if old else ""
    notes: tuple[str, ...] = ()
    if not old:
        notes = world.tell_profile()
        name = rng.choice(list(world.profile)[-2:])
    gold = world.profile[name]
    question = f"As I said earlier, what is my {name}?" if old else f"What is my {name}?"
    return notes, question, gold, "word", 0.6 if old else 0.4, f"Your {name} is {gold}."


def _fact(world: World, position: int) -> Made:
    if world.rng.random() < 0.6:
        country = world.rng.choice(list(_CAPITALS))
        question, gold = f"What is the capital of {country}?", _CAPITALS[country]
        reply = f"The capital of {country} is {gold}."
    else:
        word = world.rng.choice(list(_OPPOSITES))
        question, gold = f"What is the opposite of {word}?", _OPPOSITES[word]
        reply = f"The opposite of {word} is {gold}."
    return (), question, gold, "word", 0.1, reply


def _arithmetic(world: World, position: int) -> Made:
    rng = world.rng
    a, b, c = rng.randint(12, 89), rng.randint(3, 9), rng.randint(11, 60)
    thing, name = rng.choice(_THINGS), rng.choice(_NAMES)
    kind = rng.randrange(5)
    if kind < 4:
        question, gold = (
            (f"A box holds {a} {thing}s. How many {thing}s do {b} boxes hold?", a * b),
            (f"{name} has {a} coins and gets {c} more. How many coins now?", a + c),
            (f"A train goes {a} km in one hour. How many km in {b} hours?", a * b),
            (f"{name} has {a + c} coins and pays {c}. How many coins are left?", a),
        )[kind]
    else:
        question = (
            f"{name} buys {b} {thing}s for {a} coins each and a map for {c} coins. "
            "How many coins in total?"
        )
        gold = a * b + c
    return (), question, str(gold), "number", 0.3 if kind < 4 else 0.5, str(gold)


def _price(world: World, position: int) -> Made:
    rng = world.rng
    old = bool(world.prices) and rng.random() < 0.6
    notes: tuple[str, ...] = ()
    thing = rng.choice(list(world.prices)) if old else None
    if thing is None:
        notes = world.tell_price()
        thing = list(world.prices)[-1]
    count = rng.randint(3, 9)
    gold = str(world.prices[thing] * count)
    lead = "At the price I told you earlier, how" if old else "How"
    question = f"{lead} many coins do {count} {thing}s cost?"
    return notes, question, gold, "number", 0.9 if old else 0.7, gold


def _table(world: World) -> tuple[tuple[str, ...], str, bool]:
    old = bool(world.tables) and world.rng.random() < 0.6
    notes = () if old else world.tell_table()
    goods = world.rng.choice(list(world.tables)) if old else list(world.tables)[-1]
    return notes, goods, old


def _table_lookup(world: World, position: int) -> Made:
    notes, goods, old = _table(world)
    day = world.rng.choice(list(world.tables[goods]))
    gold = str(world.tables[goods][day])
    lead = "In the earlier notes, how" if old else "How"
    question = f"{lead} many {goods} were sold on {day}?"
    return (
        notes,
        question,
        gold,
        "number",
        0.6 if old else 0.4,
        f"On {day} {gold} {goods} were sold.",
    )


def _table_day(world: World, position: int) -> Made:
    notes, goods, old = _table(world)
    table = world.tables[goods]
    unique = [day for day, n in table.items() if list(table.values()).count(n) == 1]
    day = world.rng.choice(unique or list(table))
    lead = "In the earlier notes, on" if old else "On"
    question = f"{lead} which day were {table[day]} {goods} sold?"
    reply = f"On {day} {table[day]} {goods} were sold."
    return notes, question, day, "word", 0.6 if old else 0.4, reply


def _table_sum(world: World, position: int) -> Made:
    notes, goods, old = _table(world)
    first, second = world.rng.sample(list(world.tables[goods]), 2)
    gold = str(world.tables[goods][first] + world.tables[goods][second])
    lead = "In the earlier notes, how" if old else "How"
    question = f"{lead} many {goods} were sold on {first} and {second} together?"
    return notes, question, gold, "number", 0.9 if old else 0.7, gold


def _expression(world: World, position: int) -> Made:
    a, b = world.rng.randint(2, 9), world.rng.randint(2, 30)
    kind = world.rng.randrange(4)
    if (kind, b) == (2, 3) or (kind, a, b) == (0, 5, 7):
        b += 1  # those two are the worked examples
    text, gold = (
        (f"x times {a}, plus {b}", f"x * {a} + {b}"),
        (f"x plus {b}", f"x + {b}"),
        (f"x minus {b}", f"x - {b}"),
        (f"x divided by {a}", f"x / {a}"),
    )[kind]
    question = f"Write a Python expression for: {text}"
    return (), question, gold, "expression", 0.4 if kind == 0 else 0.3, gold


def _extraction(world: World, position: int) -> Made:
    rng = world.rng
    name, city, job, age = (
        rng.choice(_NAMES),
        rng.choice(_CITIES),
        rng.choice(_JOBS),
        rng.randint(20, 70),
    )
    text = (
        f"{name} is a {job} from {city} and is {age} years old.",
        f"The {age} year old {job} {name} lives in {city}.",
    )[rng.randrange(2)]
    gold = f"{name} | {age} | {city}"
    return (), f"Rewrite in the form name | age | city: {text}", gold, "form", 0.3, gold


def _compose(world: World, position: int) -> Made:
    first, second = world.rng.sample(_WORDS, 2)
    question = f"Write one short sentence with the words {first} and {second}."
    return (), question, f"{first} {second}", "contains", 0.3, f"The {first} is near the {second}."


def _greeting(world: World, position: int) -> Made:
    notes: tuple[str, ...] = ()
    old = world.user is not None
    if not old:
        notes = world.tell_user()
    assert world.user is not None
    word = world.rng.choice(("hello", "good morning", "good night", "thank you"))
    question, reply = f"Say {word} to me by my name.", f"{word.capitalize()}, {world.user}!"
    return notes, question, world.user, "contains", 0.4 if old else 0.2, reply


class Family(NamedTuple):
    """A generator, the task type it belongs to and its share among the turns after the first."""

    task: str
    weight: float
    make: Callable[[World, int], Made]


FAMILIES = {
    "recall": Family("simple_qa", 0.18, _recall),
    "fact": Family("simple_qa", 0.08, _fact),
    "arithmetic": Family("complex_reasoning", 0.12, _arithmetic),
    "price": Family("complex_reasoning", 0.10, _price),
    "table_lookup": Family("data_analysis", 0.12, _table_lookup),
    "table_day": Family("data_analysis", 0.08, _table_day),
    "table_sum": Family("complex_reasoning", 0.05, _table_sum),
    "expression": Family("code_generation", 0.09, _expression),
    "extraction": Family("text_writing", 0.07, _extraction),
    "compose": Family("text_writing", 0.05, _compose),
    "greeting": Family("casual_chat", 0.07, _greeting),
}
FIRST_FAMILIES = ("recall", "price", "table_lookup", "greeting")
