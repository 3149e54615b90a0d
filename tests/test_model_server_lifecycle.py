"""Versions: which ones serve, when they are loaded and unloaded, and what keeps a bad one out."""

import shutil
import threading
import time

import numpy as np
from test_model_server_support import ASK, ONE, Client, manager_for, save_half_plus_two, states

from serving.model_server.status import Code, ServingError
from serving.model_server.version_policy import (
    Action,
    State,
    VersionPolicy,
    VersionSnapshot,
    next_action,
    wanted_versions,
)
from serving.model_server.version_source import scan_versions


def wait_for(client: Client, expected: dict[str, str]) -> None:
    deadline = time.monotonic() + 10
    while states(client) != expected and time.monotonic() < deadline:
        time.sleep(0.01)
    assert states(client) == expected


# The policy, without files or threads.


def test_latest_wants_the_highest_versions_and_passes_over_failed_ones():
    assert wanted_versions(VersionPolicy(), [1, 3, 2], failed=()) == {3}
    assert wanted_versions(VersionPolicy(count=2), [1, 3, 2], failed=()) == {2, 3}
    assert wanted_versions(VersionPolicy(), [1, 3, 2], failed={3}) == {2}
    assert wanted_versions(VersionPolicy(), [3], failed={3}) == {3}
    assert wanted_versions(VersionPolicy(), [], failed=()) == set()


def test_all_and_specific_want_what_is_there():
    assert wanted_versions(VersionPolicy("all"), [1, 2], failed={2}) == {1, 2}
    assert wanted_versions(VersionPolicy("specific", versions=(2, 9)), [1, 2], failed=()) == {2}


def test_a_new_version_is_loaded_before_the_old_one_goes():
    old = VersionSnapshot(1, State.AVAILABLE, wanted=False)
    assert next_action([old, VersionSnapshot(2, State.START, wanted=True)]) == Action("load", 2)
    assert next_action([old, VersionSnapshot(2, State.LOADING, wanted=True)]) is None
    assert next_action([old, VersionSnapshot(2, State.AVAILABLE, wanted=True)]) == Action("unload", 1)


def test_an_unwanted_version_stays_while_nothing_wanted_is_ready():
    old = VersionSnapshot(1, State.AVAILABLE, wanted=False)
    assert next_action([old, VersionSnapshot(2, State.END, wanted=True)]) is None


def test_everything_goes_when_nothing_is_wanted_and_the_highest_loads_first():
    assert next_action([VersionSnapshot(1, State.AVAILABLE, wanted=False)]) == Action("unload", 1)
    new = [VersionSnapshot(number, State.START, wanted=True) for number in (1, 3, 2)]
    assert next_action(new) == Action("load", 3)
    assert next_action([]) is None


def test_of_several_unwanted_versions_the_lowest_goes_first():
    old = [VersionSnapshot(number, State.AVAILABLE, wanted=False) for number in (2, 1)]
    assert next_action([*old, VersionSnapshot(3, State.START, wanted=True)]) == Action("unload", 1)


def test_version_directories_are_whole_numbers(tmp_path):
    for name in ("1", "00002", "x3", "4.5", "-6", "tmp-7", "99999999999999999999"):
        (tmp_path / name).mkdir()
    assert scan_versions(tmp_path) == {1: tmp_path / "1", 2: tmp_path / "00002"}
    assert scan_versions(tmp_path / "missing") is None


# With real models.


def test_a_new_version_takes_over_and_the_old_one_ends(tmp_path):
    save_half_plus_two(tmp_path, 1)
    manager = manager_for({"half": tmp_path})
    client = Client(manager)
    assert client.post(ASK, ONE) == (200, {"predictions": [2.5]})
    save_half_plus_two(tmp_path, 2, two=3.0)
    manager.poll()
    assert client.post(ASK, ONE) == (200, {"predictions": [3.5]})
    wait_for(client, {"1": "END", "2": "AVAILABLE"})
    assert client.post("/v1/models/half/versions/1:predict", ONE)[0] == 404


def swapped(base, **options):
    """A client of a model whose second version has just taken over, and its manager."""
    save_half_plus_two(base, 1)
    manager = manager_for({"half": base}, **options)
    save_half_plus_two(base, 2)
    manager.poll()
    return Client(manager), manager


def test_the_old_version_is_unloaded_after_a_delay_but_at_once_where_it_was_the_last(tmp_path):
    client, manager = swapped(tmp_path, unload_delay_seconds=600.0)
    assert states(client) == {"2": "AVAILABLE", "1": "UNLOADING"}
    assert client.post(ASK, ONE) == (200, {"predictions": [2.5]})
    for version in ("1", "2"):
        shutil.rmtree(tmp_path / version)
    manager.poll()
    wait_for(client, {"2": "END", "1": "UNLOADING"})


def test_the_old_version_is_unloaded_when_the_delay_has_passed(tmp_path):
    client, _ = swapped(tmp_path, unload_delay_seconds=0.01)
    wait_for(client, {"2": "AVAILABLE", "1": "END"})


def test_the_old_version_is_unloaded_only_when_its_last_request_has_ended(tmp_path):
    save_half_plus_two(tmp_path, 1)
    manager = manager_for({"half": tmp_path})
    client = Client(manager)
    with manager.serving.servable("half") as held:
        save_half_plus_two(tmp_path, 2, two=3.0)
        manager.poll()
        assert states(client) == {"1": "UNLOADING", "2": "AVAILABLE"}
        assert held.run("serving_default", {"x": np.float32([1.0])}, ["y"])["y"].tolist() == [2.5]
    wait_for(client, {"1": "END", "2": "AVAILABLE"})


def test_requests_during_swaps_never_fail(tmp_path):
    save_half_plus_two(tmp_path, 1)
    manager = manager_for({"half": tmp_path})
    client = Client(manager)
    failures, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            status, answer = client.post(ASK, ONE)
            if status != 200 or answer["predictions"][0] not in (2.5, 3.5):
                failures.append((status, answer))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for version in range(2, 6):
        save_half_plus_two(tmp_path, version, two=3.0)
        manager.poll()
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_removed_version_falls_back_and_a_removed_base_path_changes_nothing(tmp_path):
    save_half_plus_two(tmp_path / "m", 1)
    save_half_plus_two(tmp_path / "m", 2, two=3.0)
    manager = manager_for({"half": tmp_path / "m"})
    client = Client(manager)
    assert states(client) == {"2": "AVAILABLE"}
    shutil.rmtree(tmp_path / "m" / "2")
    manager.poll()
    assert client.post(ASK, ONE) == (200, {"predictions": [2.5]})
    (tmp_path / "m").rename(tmp_path / "away")
    manager.poll()
    assert client.post(ASK, ONE) == (200, {"predictions": [2.5]})


def test_a_missing_or_empty_base_path_is_polled_until_a_version_appears(tmp_path, caplog):
    manager = manager_for({"half": tmp_path / "m"})
    client = Client(manager)
    assert "Could not find base path" in caplog.text
    assert client.get("/v1/models/half")[0] == 404
    (tmp_path / "m").mkdir()
    manager.poll()
    save_half_plus_two(tmp_path / "m", 1)
    manager.poll()
    assert client.post(ASK, ONE)[0] == 200


def test_a_directory_that_is_no_model_is_never_in_service_and_status_says_why(tmp_path):
    save_half_plus_two(tmp_path, 1)
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "saved_model.pb").write_bytes(b"not a model")
    manager = manager_for({"half": tmp_path})
    client = Client(manager)
    assert client.post(ASK, ONE) == (200, {"predictions": [2.5]})
    assert states(client) == {"2": "END", "1": "AVAILABLE"}
    status = client.get("/v1/models/half/versions/2")[1]["model_version_status"][0]["status"]
    assert status["error_code"] == "FAILED_PRECONDITION"
    assert "saved_model.pb" in status["error_message"]


def test_an_unknown_op_is_named(tmp_path):
    from tensorflow.core.protobuf import saved_model_pb2

    path = save_half_plus_two(tmp_path, 1) / "saved_model.pb"
    proto = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    proto.meta_graphs[0].graph_def.node.add(name="extra", op="No>SuchOp")
    path.write_bytes(proto.SerializeToString())
    client = Client(manager_for({"half": tmp_path}))
    status = client.get("/v1/models/half")[1]["model_version_status"][0]["status"]
    assert status["error_code"] == "NOT_FOUND"
    assert status["error_message"].startswith("Op type not registered 'No>SuchOp' in this binary.")


def test_a_failed_version_is_tried_again_when_its_files_change(tmp_path):
    path = save_half_plus_two(tmp_path, 1)
    whole = (path / "saved_model.pb").read_bytes()
    (path / "saved_model.pb").write_bytes(whole[:-20])
    manager = manager_for({"half": tmp_path})
    client = Client(manager)
    assert states(client) == {"1": "END"}
    manager.poll()
    assert states(client) == {"1": "END"}
    (path / "saved_model.pb").write_bytes(whole)
    manager.poll()
    assert client.post(ASK, ONE)[0] == 200


def test_a_failed_load_is_retried_as_often_as_asked(tmp_path):
    (tmp_path / "1").mkdir()
    manager = manager_for({"half": tmp_path}, max_retries=2, retry_seconds=0.0)
    tries = []
    manager._loader = manager._loader._replace(load=lambda *_, **__: tries.append(1) or _fail())
    for _ in range(5):
        manager.poll()
    assert len(tries) == 2


def _fail():
    raise ServingError(Code.UNAVAILABLE, "the disk is away")
