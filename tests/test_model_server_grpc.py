"""The gRPC server in its event loop: what goes into batches, what goes into threads, and how a call ends."""

import asyncio
import contextlib
import threading
import time

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
from test_model_server_support import free_port, manager_for, save_pair

from serving.model_server.batching import BatchingOptions, BatchScheduler
from serving.model_server.grpc_drain import REFUSAL
from serving.model_server.grpc_server import GrpcServer
from serving.model_server.grpc_services import PredictionService
from serving.model_server.tensor_protos import from_proto, to_proto
from tfrs_shop.errors import UserError

WAIT_SECONDS = 5.0


@pytest.fixture(scope="module")
def manager(tmp_path_factory):
    base = tmp_path_factory.mktemp("models")
    save_pair(base)
    return manager_for({"pair": base})


class Running:
    """A `GrpcServer` in the event loop of a thread."""

    def __init__(self, manager, *, batching: bool = True, max_waiting: int = 8) -> None:
        self.port = free_port()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        service = PredictionService(manager)
        self.server = self.run(self._start({service.NAME: service.calls(batching=batching)}, max_waiting))
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")
        self.stub = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)

    async def _start(self, services, max_waiting):
        server = GrpcServer(services, None, threads=2, max_waiting=max_waiting)
        await server.start("127.0.0.1", self.port)
        return server

    def run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    def close(self) -> None:
        self.channel.close()
        self.run(self.server.drain(0.0, 0.0))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)


@pytest.fixture
def running(manager):
    with contextlib.closing(Running(manager)) as running:
        yield running


@pytest.fixture
def batches(manager):
    """Batches of three rows; the sizes of those that ran."""
    scheduler = BatchScheduler(BatchingOptions(max_batch_size=3, batch_timeout_seconds=WAIT_SECONDS))
    sizes: list[int] = []
    with manager.serving.servable("pair") as servable:
        alone = servable.run_alone

        def run_alone(feeds, fetches):
            sizes.append(len(next(iter(feeds.values()))))
            return alone(feeds, fetches)

        servable.run_alone, servable.batcher = run_alone, scheduler.batcher_for(servable)
        yield sizes
        del servable.run_alone
        servable.batcher = None
    scheduler.stop()


def lookup(*places: int) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "pair", "lookup"
    to_proto(np.int32(places), request.inputs["x"])
    return request


def values(response: predict_pb2.PredictResponse) -> list[int]:
    return from_proto(response.outputs["y"], "y").tolist()


def test_calls_that_wait_together_run_as_one_batch_and_get_their_own_rows(running, batches):
    calls = [running.stub.Predict.future(lookup(place), timeout=20) for place in range(3)]
    assert [values(call.result()) for call in calls] == [[10], [20], [30]]
    assert batches == [3]


def test_a_call_that_fails_in_a_batch_fails_alone(running, batches):
    calls = [running.stub.Predict.future(lookup(place), timeout=20) for place in (0, 7, 2)]
    assert values(calls[0].result()) == [10]
    assert values(calls[2].result()) == [30]
    with pytest.raises(grpc.RpcError) as caught:
        calls[1].result()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "indices[0] = 7 is not in [0, 3)" in caught.value.details()


def test_a_large_call_is_read_in_a_thread_and_runs_in_parts(running, batches):
    places = [place % 3 for place in range(20_000)]
    response = running.stub.Predict(lookup(*places), timeout=20)
    assert values(response) == [10 * (place + 1) for place in places]
    assert set(batches) == {3, 2}


def test_without_batching_every_call_runs_by_itself(manager):
    with contextlib.closing(Running(manager, batching=False)) as running:
        assert values(running.stub.Predict(lookup(2, 0), timeout=20)) == [30, 10]


def test_where_too_many_wait_a_call_is_unavailable_at_once(manager, batches):
    with contextlib.closing(Running(manager, max_waiting=2)) as running:
        waiting = [running.stub.Predict.future(lookup(place), timeout=20) for place in (0, 1)]
        wait_until(lambda: running.server._drain.running == 2)
        with pytest.raises(grpc.RpcError) as caught:
            running.stub.Predict(lookup(2), timeout=1)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert caught.value.details() == "Too many requests are waiting for this server"
        assert [values(call.result()) for call in waiting] == [[10], [20]]


@pytest.mark.parametrize("size", [3, 30_000])
def test_what_is_no_message_is_an_internal_error_as_with_any_grpc_server(running, size):
    call = running.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"\xff" * size, timeout=20)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert caught.value.details() == "Exception deserializing request!"


def test_a_call_whose_client_has_gone_holds_no_version_when_its_batch_has_run(running, batches, manager):
    calls = [running.stub.Predict.future(lookup(place), timeout=20) for place in (0, 1)]
    with manager.serving.servable("pair") as servable:
        wait_until(lambda: servable._users == 4)  # the fixture's, this block's, and two calls
        assert calls[0].cancel()
        assert values(running.stub.Predict(lookup(2), timeout=20)) == [30]
        assert values(calls[1].result()) == [20]
        wait_until(lambda: servable._users == 2)


def wait_until(holds):
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_server_that_drains_answers_what_runs_and_refuses_what_comes(running, batches):
    waiting = running.stub.Predict.future(lookup(0), timeout=20)
    wait_until(lambda: running.server._drain.running == 1)
    drained = asyncio.run_coroutine_threadsafe(running.server.drain(10.0, 0.0), running.loop)
    wait_until(lambda: running.server._drain._refusing)
    with pytest.raises(grpc.RpcError) as caught:
        running.stub.Predict(lookup(1), timeout=20)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNAVAILABLE, REFUSAL)
    # It is alone in its batch, so it is answered when the time to wait has passed.
    assert values(waiting.result()) == [10]
    assert drained.result(10) is None


def test_a_port_that_is_taken_is_one_clear_sentence(running):
    with pytest.raises(UserError, match=rf"--port={running.port}: cannot listen on 127.0.0.1; is the port taken\?"):
        running.run(running._start({}, 8))
