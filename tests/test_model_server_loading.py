"""How a version is brought in: functions some at a time, behind the requests that are served meanwhile."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from test_model_server_support import save_pair, save_types

from serving.model_server import servable as servables
from serving.model_server.background import NICER, Background, in_background
from serving.model_server.loader import LoadOptions, load_version

INPUTS = {"a": np.float32([1, 2]), "label": np.array([b"x", b"y"], object)}
OUTPUTS = {"score": [2.0, 4.0], "label": [b"x", b"y"], "label_bytes": [b"x", b"y"]}


def own_niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_work_in_the_background_and_the_threads_that_it_starts_let_others_go_first() -> None:
    def work() -> list[int]:
        seen = [own_niceness()]
        thread = threading.Thread(target=lambda: seen.append(own_niceness()))
        thread.start()
        thread.join()
        return seen

    before = own_niceness()
    assert in_background(work) == [min(before + NICER, 19)] * 2
    assert own_niceness() == before


def priority() -> tuple[int, int]:
    return os.sched_getscheduler(0), own_niceness()


def test_work_beside_traffic_is_idle_where_the_processors_have_room_and_else_nice(monkeypatch) -> None:
    before, nice = priority(), min(own_niceness() + NICER, 19)
    with Background() as background:
        monkeypatch.setattr(background, "has_room", lambda: True)
        assert [background.run(priority) for _ in range(2)] == [(os.SCHED_IDLE, nice)] * 2
        monkeypatch.setattr(background, "has_room", lambda: False)
        assert background.run(priority) == (os.SCHED_OTHER, nice)
    assert priority() == before


def test_work_beside_traffic_gets_on_where_the_processors_are_never_free() -> None:
    busy = [subprocess.Popen([sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE)
            for _ in range(2 * (os.cpu_count() or 1))]  # fmt: skip
    try:
        for process in busy:
            assert process.stdout is not None
            process.stdout.readline()
        with Background() as background:
            assert background.run(priority)[0] == os.SCHED_OTHER
    finally:
        for process in busy:
            process.kill()
            process.communicate()


def test_what_fails_in_a_step_fails_where_it_was_asked_for_and_the_next_one_runs() -> None:
    with Background() as background:
        with pytest.raises(ZeroDivisionError):
            background.run(lambda: 1 // 0)
        assert background.run(lambda: 1 + 1) == 2


def test_what_fails_in_the_background_fails_where_it_was_asked_for() -> None:
    with pytest.raises(ZeroDivisionError):
        in_background(lambda: 1 // 0)


@pytest.mark.parametrize("beside_traffic", [False, True])
def test_a_model_whose_functions_come_one_by_one_answers_as_it_should(tmp_path, monkeypatch, beside_traffic) -> None:
    monkeypatch.setattr(servables, "_NODES_AT_ONCE", 1)
    loaded = load_version("pair", 1, save_pair(tmp_path), LoadOptions(), beside_traffic=beside_traffic)
    answer = loaded.run("serving_default", INPUTS, list(OUTPUTS))
    assert {name: values.tolist() for name, values in answer.items()} == OUTPUTS
    assert loaded.run("lookup", {"x": np.int32([2, 0])}, ["y"])["y"].tolist() == [30, 10]
    # From now on a request may use every thread again.
    assert not loaded.in_callers_thread
    loaded.close()


def test_requests_for_more_kinds_of_outputs_than_are_kept_are_answered(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(servables, "_MOST_KINDS", 2)
    loaded = load_version("pair", 1, save_pair(tmp_path / "pair"), LoadOptions())
    for names in (["score"], ["label", "score"], ["label_bytes"], ["score", "label"], ["score"], ["label_bytes"]):
        answer = loaded.run("serving_default", INPUTS, names)
        assert {name: values.tolist() for name, values in answer.items()} == {name: OUTPUTS[name] for name in names}
    loaded.close()
    # A kind is a signature's too.
    types = load_version("types", 1, save_types(tmp_path / "types"), LoadOptions())
    for name, value in (("float", np.float32([1.5])), ("int8", np.int8([-3])), ("uint64", np.uint64([2**63]))):
        assert types.run(name, {"x": value}, ["y"])["y"].tolist() == value.tolist()
    types.close()
