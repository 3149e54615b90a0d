"""The whole server: models, REST and gRPC, from the first poll to the end of the drain."""

import asyncio
import functools
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable

from tensorflow.core.protobuf import config_pb2

from serving.model_server import metrics
from serving.model_server.batching import BatchingOptions, BatchScheduler
from serving.model_server.config_files import (
    read_batching_parameters,
    read_model_config,
    read_monitoring_config,
    read_session_config,
)
from serving.model_server.flags import Options
from serving.model_server.grpc_health import HealthService
from serving.model_server.grpc_model_service import ModelService
from serving.model_server.grpc_server import GrpcServer
from serving.model_server.grpc_services import PredictionService
from serving.model_server.http_connection import HttpLimits, html_error
from serving.model_server.http_parser import Request
from serving.model_server.http_server import HttpServer
from serving.model_server.loader import LoadOptions, load_version
from serving.model_server.log_file import Rotation
from serving.model_server.manager import Loader, ModelManager
from serving.model_server.model_configs import ModelConfigs, single_model, watch_config_file
from serving.model_server.request_log import RequestLog
from serving.model_server.rest import Answer, RestApi
from serving.model_server.routes import API_PREFIX
from serving.model_server.status import ServingError
from serving.model_server.storefront import Storefront
from tfrs_shop.errors import UserError

logger = logging.getLogger(__name__)

# How long after SIGTERM requests that are already on their way still find an open door.
LINGER_SECONDS = 0.5
# A version that has left service is unloaded so much later.
UNLOAD_DELAY_SECONDS = 1.0
# Threads hand over the interpreter after this long, so that loading a model does not hold up requests.
SWITCH_SECONDS = 0.001
# Objects between two looks for what is left over in cycles, which requests hardly leave; a batch makes Python's 700.
COLLECT_EVERY = 10_000
METRICS_PATH = "/monitoring/prometheus/metrics"


class ModelServer:
    """One process's server; `run` returns when it has drained."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._stop = asyncio.Event()
        self._stopped = threading.Event()
        self._log = _request_log(options)
        self._manager = ModelManager(
            _loader(options),
            poll_seconds=options.file_system_poll_wait_seconds,
            unload_delay_seconds=UNLOAD_DELAY_SECONDS,
        )
        self._configs = ModelConfigs(
            self._manager, allow_unavailable_labels=options.allow_version_labels_for_unavailable_models
        )
        self._door = FrontDoor(
            RestApi(
                self._manager,
                enable_cors=options.rest_api_enable_cors_support,
                draining=self._stop.is_set,
                request_log=self._log,
            ),
            _metrics_path(options),
            batching=options.enable_batching,
            storefront=Storefront() if options.storefront else None,
        )
        self._health = HealthService()

    async def run(self) -> None:
        """Load, listen, say so, and serve until SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        # What the imports made stays for ever; the collector need not look at it when a model is unloaded.
        gc.collect()
        gc.freeze()
        gc.set_threshold(COLLECT_EVERY)
        sys.setswitchinterval(SWITCH_SECONDS)
        self._configure()
        self._manager.start()
        try:
            if await loop.run_in_executor(None, self._manager.wait_until_settled, self._stop.is_set):
                await self._serve()
        finally:
            self._stopped.set()
            if self._log is not None:
                await loop.run_in_executor(None, self._log.close)
            self._manager.stop()

    def _configure(self) -> None:
        options, path = self._options, self._options.model_config_file
        if path is None:
            assert options.model_base_path is not None
            config = single_model(options.model_name, options.model_base_path)
        else:
            config = read_model_config(path)
        try:
            self._configs.apply(config)
        except ServingError as error:
            source = f"--model_config_file={path}" if path else "--model_base_path"
            raise UserError(f"{source}: {error.message}") from None
        if path is not None and options.model_config_file_poll_wait_seconds > 0:
            watched = (path, self._configs, options.model_config_file_poll_wait_seconds, self._stopped)
            threading.Thread(target=watch_config_file, args=watched, daemon=True).start()

    async def _serve(self) -> None:
        options = self._options
        limits = HttpLimits(
            max_body_bytes=options.rest_api_max_body_bytes, answer_seconds=options.rest_api_timeout_in_ms / 1000
        )
        rest = HttpServer(self._door, threads=options.rest_api_num_threads, limits=limits)
        over_grpc = self._grpc_server() if options.port else None
        if over_grpc is not None:
            await over_grpc.start(options.host, options.port)
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
        self._health.stop()
        drains = [rest.drain(options.drain_seconds, LINGER_SECONDS)]
        if over_grpc is not None:
            drains.append(over_grpc.drain(options.drain_seconds, LINGER_SECONDS))
        await asyncio.gather(*drains)

    def _grpc_server(self) -> GrpcServer:
        options = self._options
        predictions = PredictionService(self._manager, self._log)
        models = ModelService(self._manager, self._configs, self._stop.is_set)
        return GrpcServer(
            {predictions.NAME: predictions.calls(batching=options.enable_batching), models.NAME: models.calls()},
            self._health if options.enable_grpc_healthcheck_service else None,
            threads=options.grpc_max_threads,
        )

    def _ready_line(self) -> str:
        options = self._options
        available = self._manager.serving.available()
        models = [f"{name} {','.join(map(str, numbers))}" for name, numbers in available.items()]
        rest = f"http://{options.host}:{options.rest_api_port}/v1/models" if options.rest_api_port else "off"
        over_grpc = f"{options.host}:{options.port}" if options.port else "off"
        return f"Ready. Versions in service: {'; '.join(models) or 'none'}. REST: {rest}. gRPC: {over_grpc}"


class FrontDoor:
    """Sends an HTTP request to the API, to the metrics or to the storefront, and turns away what is none of them."""

    def __init__(
        self, rest: RestApi, metrics_path: str | None, *, batching: bool, storefront: Storefront | None = None
    ) -> None:
        self._rest = rest
        self._batching = batching
        self._metrics_path = metrics_path
        self._storefront = storefront

    def answer(self, request: Request) -> Answer:
        """Answer one HTTP request."""
        path = request.path
        if self._metrics_path is not None and path.partition("?")[0].partition("#")[0] == self._metrics_path:
            if path != self._metrics_path:
                text = f"Unexpected path: {path}. Should be {self._metrics_path}"
                return Answer(400, text.encode(), "text/plain")
            return Answer(200, metrics.page(), "text/plain")
        if API_PREFIX.fullmatch(path) is None:
            page = self._storefront.answer(request) if self._storefront is not None else None
            return page or html_error(404)
        return self._rest.answer(request.method, path, request.headers, request.body)

    def begin(self, request: Request, done: Callable[[Answer], None]) -> bool:
        """Take a prediction that runs in a batch; False leaves a request to `answer`."""
        if not self._batching or API_PREFIX.fullmatch(request.path) is None:
            return False
        return self._rest.begin(request.method, request.path, request.body, done)


def _metrics_path(options: Options) -> str | None:
    if options.monitoring_config_file is None:
        return None
    prometheus = read_monitoring_config(options.monitoring_config_file).prometheus_config
    return (prometheus.path or METRICS_PATH) if prometheus.enable else None


def _request_log(options: Options) -> RequestLog | None:
    if options.request_log_dir is None or options.request_log_sampling_rate == 0:
        return None
    rotation = Rotation(options.request_log_max_records, options.request_log_max_bytes, options.request_log_max_seconds)
    return RequestLog(options.request_log_dir, sampling_rate=options.request_log_sampling_rate, rotation=rotation)


def _batching(options: Options) -> BatchScheduler | None:
    if not options.enable_batching:
        return None
    given = read_batching_parameters(options.batching_parameters_file) if options.batching_parameters_file else None

    def value(name: str, default: int) -> int:
        return int(getattr(given, name).value) if given is not None and given.HasField(name) else default

    try:
        return BatchScheduler(
            BatchingOptions(
                max_batch_size=value("max_batch_size", 1000),
                batch_timeout_seconds=value("batch_timeout_micros", 0) / 1e6,
                max_enqueued_batches=value("max_enqueued_batches", 10),
                threads=value("num_batch_threads", os.cpu_count() or 1),
                allowed_batch_sizes=tuple(given.allowed_batch_sizes) if given is not None else (),
                pad_variable_length_inputs=given is not None and given.pad_variable_length_inputs,
            )
        )
    except ServingError as error:
        raise UserError(f"--batching_parameters_file={options.batching_parameters_file}: {error.message}.") from None


def _session_config(options: Options) -> config_pb2.ConfigProto:
    path, threads = options.tensorflow_session_config_file, options.tensorflow_session_parallelism
    config = read_session_config(path) if path else config_pb2.ConfigProto()
    config.intra_op_parallelism_threads = (
        options.tensorflow_intra_op_parallelism or threads or config.intra_op_parallelism_threads
    )
    config.inter_op_parallelism_threads = (
        options.tensorflow_inter_op_parallelism or threads or config.inter_op_parallelism_threads
    )
    if options.per_process_gpu_memory_fraction > 0:
        config.gpu_options.per_process_gpu_memory_fraction = options.per_process_gpu_memory_fraction
    return config


def _loader(options: Options) -> Loader:
    load_options = LoadOptions(
        session_config=_session_config(options),
        tags=options.saved_model_tags,
        warm_up=options.enable_model_warmup,
        warm_up_repeats=max(options.num_request_iterations_for_warmup, 1),
        batching=_batching(options),
    )

    return Loader(
        functools.partial(load_version, options=load_options),
        max_retries=options.max_num_load_retries,
        retry_seconds=options.load_retry_interval_micros / 1e6,
        file_list_required=options.require_file_list,
    )
