"""Requests that run as one batch get the answers that they would have had alone."""

import threading
import time

import numpy as np
import pytest
from test_model_server_support import manager_for, save_half_plus_two, save_pair, save_types

from serving.model_server.batching import BatchingOptions, BatchScheduler, Presence
from serving.model_server.status import Code, ServingError


@pytest.fixture(scope="module")
def manager(tmp_path_factory):
    base = tmp_path_factory.mktemp("models")
    save_half_plus_two(base / "half")
    save_pair(base / "pair")
    save_types(base / "types")
    return manager_for({name: base / name for name in ("half", "pair", "types")})


class Watched:
    """A servable that batches, and keeps the sizes of the batches that its session ran."""

    def __init__(self, servable, *, hold: threading.Event | None = None, **options) -> None:
        self.servable = servable
        self.sizes: list[int] = []
        self.scheduler = BatchScheduler(BatchingOptions(**options))
        self.batcher = self.scheduler.batcher_for(servable)
        alone = servable.run_alone

        def run_alone(feeds, fetches):
            if hold is not None:
                hold.wait(10)
            self.sizes.append(len(next(iter(feeds.values()))) if next(iter(feeds.values())).ndim else -1)
            return alone(feeds, fetches)

        self.batcher._servable = type("Double", (), {"name": servable.name, "run_alone": staticmethod(run_alone)})()

    def ask(self, signature, output="y", **feeds):
        """One request by the aliases of its signature."""
        definition = self.servable.signatures[signature]
        fed = {definition.inputs[alias].name: np.asarray(value) for alias, value in feeds.items()}
        return self.batcher.run(fed, [definition.outputs[output].name])[0].tolist()

    def ask_together(self, requests):
        """Several requests at once, and their answers or errors in order."""
        answers = [None] * len(requests)

        def one(index, signature, output, feeds):
            try:
                answers[index] = self.ask(signature, output, **feeds)
            except ServingError as error:
                answers[index] = error

        threads = [threading.Thread(target=one, args=(i, *request)) for i, request in enumerate(requests)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        return answers


@pytest.fixture
def watch(manager):
    watched = []

    def make(name, **options):
        with manager.serving.servable(name) as servable:
            watched.append(Watched(servable, **options))
        return watched[-1]

    yield make
    for each in watched:
        each.scheduler.stop()


def halves(*values):
    return [("serving_default", "y", {"x": np.float32(value)}) for value in values]


def test_requests_that_wait_together_run_as_one_batch_and_get_their_own_rows(watch):
    server = watch("half", max_batch_size=6, batch_timeout_seconds=5.0)
    answers = server.ask_together(halves([1.0], [2.0, 3.0], [4.0, 5.0, 6.0]))
    assert answers == [[2.5], [3.0, 3.5], [4.0, 4.5, 5.0]]
    assert server.sizes == [6]


def test_a_request_alone_is_answered_when_the_timeout_has_passed(watch):
    server = watch("half", batch_timeout_seconds=0.05)
    assert server.ask("serving_default", x=np.float32([1.0])) == [2.5]
    assert server.sizes == [1]


def test_where_requests_came_one_at_a_time_of_late_none_waits_for_others(watch):
    server = watch("half", batch_timeout_seconds=60.0)
    # So long that a slow machine does not make a pause of it.
    presence = server.scheduler._presence
    presence.WINDOW_SECONDS = 1000.0
    presence.come(1, time.monotonic() - presence.WINDOW_SECONDS)
    server.scheduler.ran(1)
    for value in (1.0, 2.0, 3.0):
        assert server.ask_together(halves([value])) == [[value / 2 + 2]]
    assert server.sizes == [1, 1, 1]


def test_what_waits_or_runs_together_is_known_from_the_second_before():
    presence = Presence()
    for place in range(3):
        presence.come(1, 0.1 * place)
    # It may be more: nothing is known of the time before.
    assert not presence.all_are(3)
    presence.go(3)
    presence.come(1, 1.5)
    assert not presence.all_are(1)
    assert presence.all_are(3)
    presence.come(3, 1.6)
    assert not presence.all_are(3)
    presence.go(4)
    presence.come(1, 2.5)
    assert presence.all_are(4)
    # After a pause nothing is known again.
    presence.come(1, 9.0)
    assert not presence.all_are(9)


def test_a_batch_is_padded_to_an_allowed_size_and_the_padding_is_not_answered(watch):
    server = watch("half", max_batch_size=8, batch_timeout_seconds=0.2, allowed_batch_sizes=(1, 4, 8))
    assert server.ask_together(halves([1.0], [2.0, 3.0])) == [[2.5], [3.0, 3.5]]
    assert server.ask("serving_default", x=np.float32([9.0, 8.0])) == [6.5, 6.0]
    assert server.sizes == [4, 4]


def test_requests_of_other_shapes_signatures_or_types_are_never_in_one_batch(watch):
    server = watch("half", max_batch_size=2, batch_timeout_seconds=0.1)
    requests = halves([[1.0, 2.0]], [[3.0]], [4.0])
    assert server.ask_together(requests) == [[[2.5, 3.0]], [[3.5]], [4.0]]
    assert server.sizes == [1, 1, 1]


def test_strings_and_several_inputs_are_batched_too(watch):
    server = watch("pair", max_batch_size=2, batch_timeout_seconds=5.0)

    def request(label, a, output):
        return "serving_default", output, {"a": np.float32([a]), "label": np.array([label], dtype=object)}

    assert server.ask_together([request(b"x", 1.0, "label"), request(b"longer", 2.0, "label")]) == [[b"x"], [b"longer"]]
    assert server.sizes == [2]


def test_variable_lengths_are_padded_with_the_first_value_when_asked(watch):
    server = watch("half", max_batch_size=2, batch_timeout_seconds=5.0, pad_variable_length_inputs=True)
    assert server.ask_together(halves([[1.0, 2.0]], [[3.0]])) == [[[2.5, 3.0]], [[3.5, 3.5]]]
    assert server.sizes == [2]


@pytest.mark.parametrize(
    ("model", "signature", "output", "feeds", "expected"),
    [
        ("types", "float", "y", {"x": np.float32(7.0)}, 7.0),
        ("half", "serving_default", "y", {"x": np.float32([])}, []),
        ("pair", "scalar", "total", {"x": np.float32([1.0, 2.0])}, 3.0),
        ("pair", "with_default", "y", {"x": np.float32([1.0]), "step": np.float32(2.0)}, [3.0]),
    ],
)
def test_what_cannot_be_part_of_a_batch_runs_alone(watch, model, signature, output, feeds, expected):
    server = watch(model, max_batch_size=4, batch_timeout_seconds=5.0)
    assert server.ask(signature, output, **feeds) == expected


def test_a_request_of_more_rows_than_a_batch_runs_in_parts(watch):
    server = watch("half", max_batch_size=4, batch_timeout_seconds=5.0)
    assert server.ask("serving_default", x=np.float32(range(9))) == [2.0 + 0.5 * value for value in range(9)]
    assert server.sizes == [4, 4, 1]


def test_an_error_in_a_part_names_the_row_by_its_place_in_the_request(watch):
    server = watch("pair", max_batch_size=2, batch_timeout_seconds=5.0)
    with pytest.raises(ServingError, match=r"indices\[3\] = 7 is not in \[0, 3\)"):
        server.ask("lookup", x=np.int32([0, 1, 2, 7, 0]))


def test_what_is_not_a_row_for_each_of_many_runs_whole_and_is_not_tried_in_parts_again(watch):
    server = watch("pair", max_batch_size=2, batch_timeout_seconds=5.0)
    rows = np.float32([1.0, 2.0, 3.0])
    assert server.ask("uneven", "first", x=rows) == server.ask("uneven", "first", x=rows) == [1.0]
    assert server.sizes == [2, 3, 3]


def test_outputs_that_are_not_a_row_for_each_input_row_are_found_out_and_run_apart(watch):
    server = watch("pair", max_batch_size=2, batch_timeout_seconds=0.2)
    requests = [("uneven", "first", {"x": np.float32([value])}) for value in (1.0, 2.0)]
    assert server.ask_together(requests) == [[1.0], [2.0]]
    assert server.ask_together(requests) == [[1.0], [2.0]]
    assert server.sizes == [2, 1, 1, 1, 1]


def test_one_bad_row_fails_its_own_request_alone(watch):
    server = watch("pair", max_batch_size=3, batch_timeout_seconds=5.0)
    requests = [("lookup", "y", {"x": np.int32([value])}) for value in (0, 7, 2)]
    good, bad, also_good = server.ask_together(requests)
    assert (good, also_good) == ([10], [30])
    assert bad.code is Code.INVALID_ARGUMENT
    assert "indices[0] = 7 is not in [0, 3)" in bad.message


def test_a_full_queue_is_unavailable_at_once(watch):
    hold = threading.Event()
    server = watch("half", hold=hold, max_batch_size=1, max_enqueued_batches=2, threads=1)
    waiting = [threading.Thread(target=server.ask, args=("serving_default",), kwargs={"x": np.float32([1.0])})]
    waiting[0].start()
    deadline = time.monotonic() + 5
    while server.scheduler._queues and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    waiting += [
        threading.Thread(target=server.ask, args=("serving_default",), kwargs={"x": np.float32([1.0])}) for _ in "ab"
    ]
    for thread in waiting[1:]:
        thread.start()
    while sum(queue.rows for queue in server.scheduler._queues.values()) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(ServingError, match="queue to which this task was submitted is full") as caught:
        server.ask("serving_default", x=np.float32([1.0]))
    assert caught.value.code is Code.UNAVAILABLE
    hold.set()
    for thread in waiting:
        thread.join(10)


def test_kinds_of_requests_are_forgotten_when_they_are_answered(watch):
    server = watch("half")
    for size in range(1, 20):
        server.ask("serving_default", x=np.ones((1, size), dtype=np.float32))
    assert server.scheduler._queues == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_batch_size": 8, "allowed_batch_sizes": (1, 4)}, "Last entry in allowed_batch_sizes must match"),
        ({"max_batch_size": 4, "allowed_batch_sizes": (2, 1, 4)}, "in increasing order"),
        ({"max_batch_size": 0}, "at least 1"),
    ],
)
def test_options_that_contradict_themselves_are_refused(options, message):
    with pytest.raises(ServingError, match=message):
        BatchingOptions(**options)
