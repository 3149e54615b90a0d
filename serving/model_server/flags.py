"""The command line: tensorflow_model_server's flag names, and a few of our own."""

import argparse
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfrs_shop.errors import UserError, suggest

# Real flags of tensorflow_model_server that this server does not take, with the reason.
_UNSUPPORTED = {
    "grpc_socket_path": "it listens on TCP only",
    "use_alts_credentials": "put a proxy that speaks TLS before it",
    "ssl_config_file": "put a proxy that speaks TLS before it",
    "platform_config_file": "it serves SavedModels only",
    "prefer_tflite_model": "it serves SavedModels only",
    "num_tflite_pools": "it serves SavedModels only",
    "num_tflite_interpreters_per_pool": "it serves SavedModels only",
    "thread_pool_factory_config_file": "it runs on TensorFlow's own thread pools",
    "mixed_precision": "bake the precision into the model",
    "skip_initialize_tpu": "it runs on CPU and GPU",
    "enable_per_model_batching_parameters": "all models share --batching_parameters_file",
    "enable_signature_method_name_check": "signatures are checked by their inputs and outputs",
    "enable_serialization_as_tensor_content": "answers carry their values in the typed fields",
}
# Real flags that change nothing here, taken so that an existing command line keeps working.
_IGNORED = (
    "flush_filesystem_caches",
    "num_load_threads",
    "num_unload_threads",
    "remove_unused_fields_from_bundle_metagraph",
    "enable_profiler",
    "xla_cpu_compilation_enabled",
    "xla_gpu_compilation_enabled",
    "grpc_channel_arguments",
)
_BATCHING_THREADS = 128


@dataclass(frozen=True)
class Options:
    """Everything that the command line decides; ports of 0 are off."""

    model_name: str
    model_base_path: Path | None
    rest_api_port: int
    port: int
    host: str
    rest_api_num_threads: int
    rest_api_timeout_in_ms: int
    grpc_max_threads: int
    file_system_poll_wait_seconds: int
    max_num_load_retries: int
    load_retry_interval_micros: int
    enable_model_warmup: bool
    num_request_iterations_for_warmup: int
    saved_model_tags: tuple[str, ...]
    tensorflow_session_config_file: Path | None
    per_process_gpu_memory_fraction: float
    tensorflow_session_parallelism: int
    tensorflow_intra_op_parallelism: int
    tensorflow_inter_op_parallelism: int
    rest_api_enable_cors_support: bool
    model_config_file: Path | None
    model_config_file_poll_wait_seconds: int
    allow_version_labels_for_unavailable_models: bool
    monitoring_config_file: Path | None
    enable_batching: bool
    batching_parameters_file: Path | None
    enable_grpc_healthcheck_service: bool
    rest_api_max_body_bytes: int
    require_file_list: bool
    drain_seconds: float
    request_log_dir: Path | None
    request_log_sampling_rate: float
    request_log_max_records: int
    request_log_max_bytes: int
    request_log_max_seconds: float
    storefront: bool


def parse_flags(arguments: Sequence[str]) -> Options:
    """The options of a command line; raises UserError for a flag that is unknown, unsupported, or malformed."""
    parser = _parser()
    known = {option.lstrip("-") for action in parser._actions for option in action.option_strings}
    for argument in arguments:
        name = argument.lstrip("-").split("=")[0]
        if argument.startswith("-") and name in _UNSUPPORTED:
            raise UserError(f"--{name}: not supported by this server: {_UNSUPPORTED[name]}.")
        if argument.startswith("-") and not argument[1:2].isdigit() and name not in known:
            raise UserError(f"--{name}: unknown flag.{suggest(name, known)} See --help.")
    given = parser.parse_args(arguments)
    values = {name: value for name, value in vars(given).items() if name not in _IGNORED}
    for name in ("rest_api_num_threads", "grpc_max_threads"):
        if values[name] is None:
            # A request that waits for its batch keeps a thread.
            values[name] = _BATCHING_THREADS if given.enable_batching else 4 * (os.cpu_count() or 1)
    values["saved_model_tags"] = tuple(given.saved_model_tags.split(","))
    options = Options(**values)
    _check(options)
    return options


def check_ports(options: Options) -> None:
    """Raise UserError for a port that cannot be listened on, before any time is spent on loading."""
    for name in ("rest_api_port", "port"):
        port = getattr(options, name)
        if port == 0:
            continue
        try:
            family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
            socket.create_server((options.host, port), family=family).close()
        except OSError as error:
            why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
            raise UserError(f"--{name}={port}: cannot listen on {options.host}: {why}.") from None


def _check(options: Options) -> None:
    if options.model_base_path is None and options.model_config_file is None:
        raise UserError(
            "--model_base_path: missing; give the directory that holds the version directories, or --model_config_file."
        )
    if options.batching_parameters_file is not None and not options.enable_batching:
        raise UserError("--batching_parameters_file is set without --enable_batching.")
    if options.port == 0 and options.rest_api_port == 0:
        raise UserError("--port and --rest_api_port are both 0; at least one must be a port to listen on.")
    if options.port == options.rest_api_port:
        raise UserError(f"--rest_api_port={options.rest_api_port}: must differ from --port.")
    for name in ("port", "rest_api_port"):
        if not 0 <= getattr(options, name) <= 65535:
            raise UserError(f"--{name}={getattr(options, name)}: must be 0 (off) to 65535.")
    if not 0.0 <= options.request_log_sampling_rate <= 1.0:
        raise UserError(f"--request_log_sampling_rate={options.request_log_sampling_rate}: must be 0 to 1.")
    if not options.request_log_max_seconds > 0:
        raise UserError(f"--request_log_max_seconds={options.request_log_max_seconds}: must be more than 0.")
    at_least_1 = ("rest_api_num_threads", "grpc_max_threads", "rest_api_max_body_bytes")
    for name in (*at_least_1, "request_log_max_records", "request_log_max_bytes"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name}={getattr(options, name)}: must be at least 1.")
    if options.model_config_file is not None and options.model_config_file_poll_wait_seconds < 0:
        raise UserError("--model_config_file_poll_wait_seconds: must be 0 (read once) or more.")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]  # argparse's own never returns either
        raise UserError(message)


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "1"):
        return True
    if text.lower() in ("false", "0"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")


def _parser() -> _Parser:
    parser = _Parser(
        prog="python -m serving.model_server",
        description="Serve SavedModels with tensorflow_model_server's flags and protocol.",
        allow_abbrev=False,
    )

    def flag(name: str, kind: Callable[[str], Any], default: object, text: str) -> None:
        more = {"nargs": "?", "const": True} if kind is _boolean else {}
        parser.add_argument(
            f"--{name}",
            type=kind,
            default=default,
            help=f"{text} (default: {default})",
            **more,  # type: ignore[arg-type]
        )

    flag("model_name", str, "default", "name of the model")
    flag("model_base_path", Path, None, "directory that holds the version directories")
    flag("rest_api_port", int, 0, "port of the REST API; 0 is off")
    flag("port", int, 8500, "port of the gRPC API; 0 is off")
    flag("rest_api_num_threads", int, None, "threads that answer REST requests")
    flag("rest_api_timeout_in_ms", int, 30000, "time for a REST answer; 0 is no limit")
    flag("grpc_max_threads", int, None, "threads that answer gRPC calls")
    flag("file_system_poll_wait_seconds", int, 1, "seconds between looks for new versions; 0 looks once")
    flag("max_num_load_retries", int, 5, "how often a failed load is tried again")
    flag("load_retry_interval_micros", int, 60_000_000, "microseconds between tries to load")
    flag("enable_model_warmup", _boolean, True, "replay the bundle's warm-up requests before traffic")
    flag("num_request_iterations_for_warmup", int, 1, "how often each warm-up request is replayed")
    flag("saved_model_tags", str, "serve", "comma-separated tags of the graph to load")
    flag("tensorflow_session_config_file", Path, None, "ConfigProto in text format")
    flag("per_process_gpu_memory_fraction", float, 0.0, "share of the GPU's memory; 0 is automatic")
    flag("tensorflow_session_parallelism", int, 0, "threads of a session, both pools; 0 is automatic")
    flag("tensorflow_intra_op_parallelism", int, 0, "threads within one op; 0 is automatic")
    flag("tensorflow_inter_op_parallelism", int, 0, "threads across ops; 0 is automatic")
    flag("rest_api_enable_cors_support", _boolean, False, "send CORS headers with REST answers")
    flag("model_config_file", Path, None, "ModelServerConfig in text format: several models, policies, labels")
    flag("model_config_file_poll_wait_seconds", int, 0, "seconds between looks at --model_config_file; 0 reads it once")
    flag(
        "allow_version_labels_for_unavailable_models",
        _boolean,
        False,
        "give labels to versions that are not loaded yet",
    )
    flag("monitoring_config_file", Path, None, "MonitoringConfig in text format: Prometheus metrics on the REST port")
    flag("enable_batching", _boolean, False, "run requests that arrive together as one batch")
    flag("batching_parameters_file", Path, None, "BatchingParameters in text format")
    flag("enable_grpc_healthcheck_service", _boolean, False, "answer grpc.health.v1.Health")
    own = "not a flag of tensorflow_model_server: "
    flag("host", str, "127.0.0.1", own + "address to listen on, for REST and gRPC")
    flag("rest_api_max_body_bytes", int, 100 << 20, own + "larger request bodies are answered with 413")
    flag("require_file_list", _boolean, False, own + "refuse versions without assets.extra/files.json")
    flag("drain_seconds", float, 30.0, own + "time for running requests to finish after SIGTERM")
    flag("request_log_dir", Path, None, own + "log predictions here, as TFRecords of PredictionLog")
    flag("request_log_sampling_rate", float, 1.0, own + "share of the predictions that are logged, 0 to 1")
    flag("request_log_max_records", int, 1000, own + "records after which the next log file begins")
    flag("request_log_max_bytes", int, 64 << 20, own + "bytes after which the next log file begins")
    flag("request_log_max_seconds", float, 300.0, own + "age at which a log file is finished")
    flag("storefront", _boolean, False, own + "serve the storefront page at /storefront/ of the REST port")
    for name in _IGNORED:
        parser.add_argument(f"--{name}", nargs="?", help="taken and ignored")
    return parser
