"""What a simulation leaves behind: events, the intents of the sessions, and the last choice of every user."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tfrs_shop.sources.simulator_queries import Wanted


class Event(NamedTuple):
    """One row of events.csv.gz, with numbers in place of ids: `product` is -1 and `time` is in seconds."""

    user: int
    product: int
    event_type: str
    time: float
    session: int
    rating: int = 0
    query: str = ""
    quantity: int = 0
    price: float = 0.0


@dataclass(frozen=True)
class Choice:
    """The moment before a user opened a product that was new to them: what an oracle would know."""

    user: int
    product: int
    day: float
    types: NDArray[np.float64]  # [types], chance of each type
    guess: NDArray[np.float64]  # [types], the same for who does not read the query
    wanted: Wanted
    utility: NDArray[np.float64]  # [products], with the wear of things seen and owned
    seen: NDArray[np.bool_]  # [products]


@dataclass
class Log:
    """All events in time order, the intent of each session, and the last choice of each user."""

    events: list[Event] = field(default_factory=list)
    intents: list[str] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)
