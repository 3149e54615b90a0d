"""A version directory into a servable that is whole, warmed up, and answers as its golden requests say."""

import contextlib
import functools
import importlib
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
from tensorflow.python.framework import op_def_registry
from tensorflow.python.saved_model import loader_impl

from serving.model_server import metrics
from serving.model_server.background import Background, Run, at_once
from serving.model_server.batching import BatchScheduler
from serving.model_server.bundle_files import check_files, has_file_list
from serving.model_server.servable import Servable, open_saved_model
from serving.model_server.status import Code, ServingError, from_exception
from serving.model_server.warmup import check_golden, warm_up

logger = logging.getLogger(__name__)

# Packages whose import registers ops, by the ops they bring; each may be absent.
_OP_PACKAGES = ("tensorflow_text", "scann.scann_ops.py.scann_ops")


@dataclass(frozen=True)
class LoadOptions:
    """How versions are loaded."""

    session_config: config_pb2.ConfigProto = field(default_factory=config_pb2.ConfigProto)
    tags: tuple[str, ...] = ("serve",)
    warm_up: bool = True
    warm_up_repeats: int = 1
    batching: BatchScheduler | None = None


def load_version(
    name: str,
    version: int,
    path: Path,
    options: LoadOptions,
    *,
    file_list_required: bool = False,
    beside_traffic: bool = False,
) -> Servable:
    """Load one version and return it ready for traffic; `beside_traffic` in one thread, which lets requests go first.

    Raises:
        ServingError: it cannot be, and why.
    """
    with Background() if beside_traffic else contextlib.nullcontext() as background:
        return _load(name, version, path, options, file_list_required, background)


def _load(
    name: str,
    version: int,
    path: Path,
    options: LoadOptions,
    file_list_required: bool,
    background: Background | None,
) -> Servable:
    run: Run = at_once if background is None else background.run
    if has_file_list(path):
        run(lambda: check_files(path))
    elif file_list_required:
        raise ServingError(
            Code.FAILED_PRECONDITION,
            "The version directory is not complete: assets.extra/files.json, which other versions have, is missing",
        )
    servable, start = None, time.perf_counter()
    logger.info("Loading version %d of %s from %s", version, name, path)
    try:
        servable = run(functools.partial(_open, name, version, path, options))
        servable.in_callers_thread = background is not None
        threads = 1 if servable.in_callers_thread else os.cpu_count() or 1
        repeats = options.warm_up_repeats
        warmed = warm_up(servable, path, repeats=repeats, threads=threads, run=run) if options.warm_up else 0
        golden = check_golden(servable, path, run=run)
        servable.in_callers_thread = False
    except Exception as error:
        metrics.LOAD_ATTEMPTS.add(str(path), "fail")
        if servable is not None:
            servable.close()
        if not isinstance(error, tf.errors.OpError | ServingError):
            # The loader raises OSError, RuntimeError, ValueError or KeyError for what is no SavedModel.
            text = str(error).strip().splitlines()
            raise ServingError(Code.FAILED_PRECONDITION, text[0] if text else type(error).__name__) from None
        raise from_exception(error) from None
    if options.batching is not None:
        servable.batcher = options.batching.batcher_for(servable)
    metrics.LOAD_ATTEMPTS.add(str(path), "success")
    metrics.LOAD_LATENCY.add(str(path), by=int((time.perf_counter() - start) * 1e6))
    logger.info("Loaded version %d of %s from %s (%d warm-up requests, %d golden)", version, name, path, warmed, golden)
    return servable


def _open(name: str, version: int, path: Path, options: LoadOptions) -> Servable:
    meta_graphs = loader_impl.parse_saved_model(str(path)).meta_graphs
    _register_ops(meta_graphs)
    config = _session_config(options.session_config, meta_graphs)
    return open_saved_model(name, version, path, config, list(options.tags))


def _session_config(
    given: config_pb2.ConfigProto, meta_graphs: Sequence[meta_graph_pb2.MetaGraphDef]
) -> config_pb2.ConfigProto:
    """Return `given`, for a model of TensorFlow 2 with the graph around its functions left as it is.

    That graph has nothing to optimize, as each function is optimized when it is first called; but each signature's
    first call would do it anew, and go through the functions of all signatures for it: half of a bundle's warm-up.
    """
    of_functions = all(meta_graph.HasField("object_graph_def") for meta_graph in meta_graphs)
    if not of_functions or given.graph_options.HasField("rewrite_options"):
        return given
    config = config_pb2.ConfigProto()
    config.CopyFrom(given)
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return config


def _register_ops(meta_graphs: Sequence[meta_graph_pb2.MetaGraphDef]) -> None:
    """Import what brings the ops that the graph needs and TensorFlow lacks; raise NOT_FOUND when they stay unknown."""
    needed = set()
    for meta_graph in meta_graphs:
        needed |= {node.op for node in meta_graph.graph_def.node}
        functions = meta_graph.graph_def.library.function
        needed |= {node.op for function in functions for node in function.node_def}
        needed -= {function.signature.name for function in functions}
    for package in _OP_PACKAGES:
        if not _unknown(needed):
            return
        try:
            importlib.import_module(package)
        except Exception as error:
            logger.warning("%s cannot be imported, so its ops are missing: %s", package, error)
    unknown = _unknown(needed)
    if unknown:
        raise ServingError(
            Code.NOT_FOUND,
            f"Op type not registered '{unknown[0]}' in this binary. Make sure the Op and Kernel are registered in the "
            "binary running in this process.",
        )


def _unknown(needed: set[str]) -> list[str]:
    return sorted(op for op in needed if op_def_registry.get(op) is None)
