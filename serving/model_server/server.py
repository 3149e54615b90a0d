"""The whole server: models, REST and gRPC, from the first poll to the end of the drain."""

import asyncio
import gc
import logging
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from serving.model_server.flags import Options
from serving.model_server.grpc_services import ModelService, PredictionService
from serving.model_server.http_parser import Request
from serving.model_server.http_server import HttpLimits, HttpServer, html_error
from serving.model_server.loader import LoadOptions, load_version
from serving.model_server.manager import Loader, ModelConfig, ModelManager
from serving.model_server.rest import Answer, RestApi
from serving.model_server.routes import API_PREFIX
from serving.model_server.servable import Servable
from tfrs_shop.errors import UserError

logger = logging.getLogger(__name__)

# How long after SIGTERM requests that are already on their way still find an open door.
LINGER_SECONDS = 0.5
# Threads hand over the interpreter after this long, so that loading a model does not hold up requests.
SWITCH_SECONDS = 0.001


class ModelServer:
    """One process's server; `run` returns when it has drained."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._manager = ModelManager(_loader(options), poll_seconds=options.file_system_poll_wait_seconds)
        self._rest = RestApi(self._manager)
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Load, listen, say so, and serve until SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        # What the imports made stays for ever; the collector need not look at it when a model is unloaded.
        gc.collect()
        gc.freeze()
        sys.setswitchinterval(SWITCH_SECONDS)
        options = self._options
        assert options.model_base_path is not None
        self._manager.configure([ModelConfig(options.model_name, options.model_base_path.absolute())])
        self._manager.start()
        try:
            if not await loop.run_in_executor(None, self._manager.wait_until_settled, self._stop.is_set):
                return
            await self._serve()
        finally:
            self._manager.stop()

    async def _serve(self) -> None:
        options = self._options
        rest = HttpServer(self.answer, threads=options.rest_api_num_threads, limits=_limits(options))
        grpc_server = self._start_grpc() if options.port else None
        if options.rest_api_port:
            try:
                await rest.start(options.host, options.rest_api_port)
            except OSError as error:
                raise UserError(
                    f"--rest_api_port={options.rest_api_port}: cannot listen on {options.host}: {error.strerror}."
                ) from None
        print(self._ready_line(), flush=True)
        await self._stop.wait()
        logger.info("Draining: running requests finish, new ones go elsewhere")
        stopped = grpc_server.stop(options.drain_seconds) if grpc_server else None
        await rest.drain(options.drain_seconds, LINGER_SECONDS)
        if stopped is not None:
            await asyncio.get_running_loop().run_in_executor(None, stopped.wait, options.drain_seconds)

    def answer(self, request: Request) -> Answer:
        """Answer one HTTP request."""
        if API_PREFIX.fullmatch(request.path) is None:
            return html_error(404)
        return self._rest.answer(request.method, request.path, request.headers, request.body)

    def _start_grpc(self) -> grpc.Server:
        options = self._options
        server = grpc.server(
            ThreadPoolExecutor(options.grpc_max_threads, thread_name_prefix="grpc"),
            options=[
                ("grpc.max_receive_message_length", 2**31 - 1),
                ("grpc.max_send_message_length", 2**31 - 1),
                ("grpc.so_reuseport", 0),
            ],
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(self._manager), server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(self._manager), server)
        try:
            bound = server.add_insecure_port(f"{options.host}:{options.port}")
        except RuntimeError:
            bound = 0
        if not bound:
            raise UserError(f"--port={options.port}: cannot listen on {options.host}; is the port taken?")
        server.start()
        return server

    def _ready_line(self) -> str:
        options = self._options
        models = [
            f"{name} {','.join(map(str, numbers))}" for name, numbers in self._manager.serving.available().items()
        ]
        rest = f"http://{options.host}:{options.rest_api_port}/v1/models" if options.rest_api_port else "off"
        over_grpc = f"{options.host}:{options.port}" if options.port else "off"
        return f"Ready. Versions in service: {'; '.join(models) or 'none'}. REST: {rest}. gRPC: {over_grpc}"


def _loader(options: Options) -> Loader:
    threads = options.tensorflow_session_parallelism
    load_options = LoadOptions(
        session_config=config_pb2.ConfigProto(
            intra_op_parallelism_threads=options.tensorflow_intra_op_parallelism or threads,
            inter_op_parallelism_threads=options.tensorflow_inter_op_parallelism or threads,
        ),
        tags=options.saved_model_tags,
        warm_up=options.enable_model_warmup,
        warm_up_repeats=max(options.num_request_iterations_for_warmup, 1),
    )

    def load(name: str, version: int, path: object, *, file_list_required: bool) -> Servable:
        return load_version(name, version, path, load_options, file_list_required=file_list_required)  # type: ignore[arg-type]

    return Loader(
        load,
        max_retries=options.max_num_load_retries,
        retry_seconds=options.load_retry_interval_micros / 1e6,
        file_list_required=options.require_file_list,
    )


def _limits(options: Options) -> HttpLimits:
    return HttpLimits(
        max_body_bytes=options.rest_api_max_body_bytes, answer_seconds=options.rest_api_timeout_in_ms / 1000
    )
