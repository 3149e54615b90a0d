"""Dynamic batching: requests of one kind that arrive together run as one, with the answers they would have had alone.

What is together in a batch has the same servable, tensors, types, and shapes but for the first dimension. A request
that cannot be part of a batch runs alone: a scalar input, inputs of different length, a signature whose shapes say that
an output is not one row for each input row. When a batch fails, or turns out to have outputs of another length, its
requests are run again one by one. A request of more rows than a batch may have runs in parts of that size, so that it
takes no more memory than a batch, and TensorFlow keeps no kernels for its size.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from serving.model_server import metrics
from serving.model_server.json_values import Array
from serving.model_server.servable import Done, Servable
from serving.model_server.status import Code, ServingError, from_exception, invalid

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchingOptions:
    """How batches are formed, with TensorFlow Serving's defaults; sizes are in rows."""

    max_batch_size: int = 1000
    batch_timeout_seconds: float = 0.0
    max_enqueued_batches: int = 10
    threads: int = 1
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False

    def __post_init__(self) -> None:
        sizes = self.allowed_batch_sizes
        if sizes and sizes[-1] != self.max_batch_size:
            raise invalid(
                f"Last entry in allowed_batch_sizes must match max_batch_size; last entry was {sizes[-1]}; "
                f"expected {self.max_batch_size}"
            )
        if list(sizes) != sorted(set(sizes)) or (sizes and sizes[0] < 1):
            raise invalid("The entries of allowed_batch_sizes must be positive and in increasing order")
        if min(self.max_batch_size, self.max_enqueued_batches, self.threads) < 1 or self.batch_timeout_seconds < 0:
            raise invalid("Batch sizes, enqueued batches and threads must be at least 1, and the timeout at least 0")


Kind = tuple[object, ...]


@dataclass(eq=False)
class _Task:
    batcher: "ServableBatcher"
    feeds: Mapping[str, Array]
    fetches: Sequence[str]
    rows: int
    since: float
    done: Done
    answer: list[Array] | ServingError | None = None


class _Queue:
    """The waiting tasks of one kind, and how many rows they have."""

    def __init__(self) -> None:
        self.tasks: deque[_Task] = deque()
        self.rows = 0

    def append(self, task: _Task) -> None:
        self.tasks.append(task)
        self.rows += task.rows

    def take(self, most_rows: int) -> list[_Task]:
        """The first tasks, as many as fit."""
        taken: list[_Task] = []
        rows = 0
        while self.tasks and (not taken or rows + self.tasks[0].rows <= most_rows):
            taken.append(self.tasks.popleft())
            rows += taken[-1].rows
        self.rows -= rows
        return taken


class Presence:
    """How many rows are waiting or running, and how many at most there were together of late."""

    WINDOW_SECONDS = 1.0

    def __init__(self) -> None:
        self._rows = self._most = 0
        self._before: int | None = None
        self._begun = -math.inf

    def come(self, rows: int, now: float) -> None:
        """Count rows that begin to wait at ``now``, in seconds."""
        passed = now - self._begun
        if passed >= self.WINDOW_SECONDS:
            self._before = self._most if passed < 2 * self.WINDOW_SECONDS else None
            self._begun, self._most = now, 0
        self._rows += rows
        self._most = max(self._most, self._rows)

    def go(self, rows: int) -> None:
        """Count rows that have run, before they are answered: an answer may bring the next request."""
        self._rows -= rows

    def all_are(self, rows: int) -> bool:
        """Whether nobody is missing where ``rows`` are; not known before requests have come for a while."""
        return self._before is not None and rows >= max(self._before, self._most)


class BatchScheduler:
    """Forms batches and runs them on threads of its own, shared by all servables.

    A batch that is not full waits for the timeout, as in TensorFlow Serving; but not where the requests of the last
    second or two never were more at once than wait already: a client that asks alone does not pay for the timeout.
    """

    def __init__(self, options: BatchingOptions) -> None:
        self.options = options
        self._presence = Presence()
        self._queues: dict[Kind, _Queue] = {}
        self._changed = threading.Condition()
        self._stopping = False
        for number in range(options.threads):
            threading.Thread(target=self._work, name=f"batch-{number}", daemon=True).start()

    def batcher_for(self, servable: Servable) -> "ServableBatcher":
        """What a servable's requests go through."""
        return ServableBatcher(servable, self)

    def stop(self) -> None:
        """End the threads when the batches that are formed have run."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def submit(self, kind: Kind, task: _Task) -> None:
        """Take a task into a batch; UNAVAILABLE at once where too much is waiting."""
        options = self.options
        with self._changed:
            queue = self._queues.setdefault(kind, _Queue())
            if queue.rows + task.rows > options.max_batch_size * options.max_enqueued_batches:
                raise ServingError(
                    Code.UNAVAILABLE, "The batch scheduling queue to which this task was submitted is full"
                )
            queue.append(task)
            self._presence.come(task.rows, task.since)
            if len(queue.tasks) == 1 or self._is_complete(queue):
                self._changed.notify()

    def ran(self, rows: int) -> None:
        """Rows that were submitted have run."""
        with self._changed:
            self._presence.go(rows)

    def _work(self) -> None:
        while True:
            with self._changed:
                tasks = self._next_batch()
                while not tasks:
                    if self._stopping:
                        return
                    self._changed.wait(self._seconds_to_next())
                    tasks = self._next_batch()
            tasks[0].batcher.run_batch(tasks)

    def _next_batch(self) -> list[_Task]:
        """Take the tasks of the first queue that is due, which then goes to the end of the line."""
        oldest = time.monotonic() - self.options.batch_timeout_seconds
        queues = self._queues.items()
        kind = next((kind for kind, q in queues if q.tasks[0].since <= oldest or self._is_complete(q)), None)
        if kind is None:
            return []
        queue = self._queues.pop(kind)
        tasks = queue.take(self.options.max_batch_size)
        if queue.tasks:
            self._queues[kind] = queue
            self._changed.notify()
        return tasks

    def _is_complete(self, queue: _Queue) -> bool:
        return queue.rows >= self.options.max_batch_size or self._presence.all_are(queue.rows)

    def _seconds_to_next(self) -> float | None:
        if not self._queues:
            return None
        first = min(queue.tasks[0].since for queue in self._queues.values())
        return max(first + self.options.batch_timeout_seconds - time.monotonic(), 0.0)


class ServableBatcher:
    """The batches of one servable, so that no batch ever mixes versions."""

    def __init__(self, servable: Servable, scheduler: BatchScheduler) -> None:
        self._servable = servable
        self._scheduler = scheduler
        self._by_row = _tensors_by_row(servable)
        self._alone: set[tuple[tuple[str, ...], tuple[str, ...]]] = set()

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """As `Servable.run_alone`, with the same answer."""
        answers: list[list[Array] | ServingError] = []
        ready = threading.Event()

        def done(answer: list[Array] | ServingError) -> None:
            answers.append(answer)
            ready.set()

        if not self.submit(feeds, fetches, done):
            return self._run_in_parts(feeds, fetches)
        ready.wait()
        if isinstance(answers[0], ServingError):
            raise answers[0]
        return answers[0]

    def submit(self, feeds: Mapping[str, Array], fetches: Sequence[str], done: Done) -> bool:
        """As `run`, but return at once and call `done` later; False where the request cannot be part of a batch."""
        rows = self._rows(feeds, fetches)
        if rows is None or rows > self._scheduler.options.max_batch_size:
            return False
        padded = self._scheduler.options.pad_variable_length_inputs
        shapes = tuple(
            [(name, array.dtype.char, array.ndim if padded else array.shape[1:]) for name, array in feeds.items()]
        )
        task = _Task(self, feeds, fetches, rows, time.monotonic(), done)
        self._scheduler.submit((id(self), shapes, tuple(fetches)), task)
        return True

    def _rows(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> int | None:
        """The rows of a request, None where its answer may not be one row for each."""
        if self._alone and (tuple(sorted(feeds)), tuple(fetches)) in self._alone:
            return None
        if not (self._by_row.issuperset(feeds) and self._by_row.issuperset(fetches)):
            return None
        lengths = {array.shape[0] if array.ndim else -1 for array in feeds.values()}
        if len(lengths) != 1:
            return None
        (rows,) = lengths
        return rows if rows > 0 else None

    def _run_in_parts(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """Run a request of many rows as batches of them, where that gives the answer that it has alone."""
        rows, most = self._rows(feeds, fetches), self._scheduler.options.max_batch_size
        if rows is None or rows <= most:
            return self._servable.run_alone(feeds, fetches)
        parts: list[list[Array]] = []
        for start in range(0, rows, most):
            part = {name: array[start : start + most] for name, array in feeds.items()}
            try:
                outputs = self._servable.run_alone(part, fetches)
            except ServingError:
                # An error may name a row, which must be its place in the request and not in the part.
                return self._servable.run_alone(feeds, fetches)
            if any(output.shape[:1] != (min(most, rows - start),) for output in outputs):
                self._alone.add((tuple(sorted(feeds)), tuple(fetches)))
                return self._servable.run_alone(feeds, fetches)
            parts.append(outputs)
        columns = list(zip(*parts, strict=True))
        if any(len({output.shape[1:] for output in column}) > 1 for column in columns):
            return self._servable.run_alone(feeds, fetches)
        return [np.concatenate(column) for column in columns]

    def run_batch(self, tasks: list[_Task]) -> None:
        """Answer the tasks of one batch."""
        now = time.monotonic()
        for task in tasks:
            metrics.QUEUING_LATENCY.add(self._servable.name, value=(now - task.since) * 1e6)
        try:
            self._run_together(tasks)
        except Exception as error:
            self._run_apart(tasks, from_exception(error))
        self._scheduler.ran(sum(task.rows for task in tasks))
        for task in tasks:
            assert task.answer is not None
            try:
                task.done(task.answer)
            except Exception:
                logger.exception("The answer to a request of a batch could not be passed on")

    def _run_together(self, tasks: list[_Task]) -> None:
        rows = sum(task.rows for task in tasks)
        allowed = [size for size in self._scheduler.options.allowed_batch_sizes if size >= rows]
        size = allowed[0] if allowed else rows
        metrics.BATCH_SIZES.add(self._servable.name, value=size)
        if len(tasks) == 1 and size == rows:
            tasks[0].answer = self._servable.run_alone(tasks[0].feeds, tasks[0].fetches)
            return
        first = tasks[0]
        merged = {name: _merge([task.feeds[name] for task in tasks], size - rows) for name in first.feeds}
        outputs = self._servable.run_alone(merged, first.fetches)
        if any(output.ndim == 0 or output.shape[0] != size for output in outputs):
            self._alone.add((tuple(sorted(first.feeds)), tuple(first.fetches)))
            raise ServingError(Code.INTERNAL, "Outputs are not one row for each input row")
        start = 0
        for task in tasks:
            task.answer = [output[start : start + task.rows] for output in outputs]
            start += task.rows

    def _run_apart(self, tasks: list[_Task], error: ServingError) -> None:
        for task in tasks:
            if len(tasks) == 1 and error.code is not Code.INTERNAL:
                task.answer = error
                continue
            try:
                task.answer = self._servable.run_alone(task.feeds, task.fetches)
            except Exception as own:
                task.answer = from_exception(own)


def _tensors_by_row(servable: Servable) -> frozenset[str]:
    """The tensors of all signatures whose first dimension is the batch: of unknown size."""
    infos = [
        info
        for signature in servable.signatures.values()
        for tensors in (signature.inputs, signature.outputs)
        for info in tensors.values()
    ]
    shapes = {info.name: info.tensor_shape for info in infos}
    return frozenset(
        name for name, shape in shapes.items() if shape.unknown_rank or (len(shape.dim) > 0 and shape.dim[0].size == -1)
    )


def _merge(arrays: Sequence[Array], padding: int) -> Array:
    """One array of all rows, and `padding` more, copies of the last request's first row."""
    shape = tuple(max(sizes) for sizes in zip(*(array.shape[1:] for array in arrays), strict=True))
    if any(array.shape[1:] != shape for array in arrays):
        arrays = [_pad_rows(array, shape) for array in arrays]
    if padding:
        arrays = [*arrays, np.repeat(arrays[-1][:1], padding, axis=0)]
    return np.concatenate(arrays)


def _pad_rows(array: Array, shape: tuple[int, ...]) -> Array:
    """Rows of the given shape, filled up with the array's first value."""
    if array.size == 0:
        raise invalid("Got empty tensor in batch of non-empty tensors.")
    padded = np.full((array.shape[0], *shape), array.flat[0], dtype=array.dtype)
    padded[tuple(slice(size) for size in array.shape)] = array
    return padded
