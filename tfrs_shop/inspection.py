"""Inspection: what is in a bundle, and which of its operations stock TensorFlow Serving lacks.

Only files are read: the graph is neither loaded nor run, so that a bundle can be looked at whose operations this
machine lacks, too.
"""

import json
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from tfrs_shop.errors import UserError

EXTRA = "assets.extra"
# TensorFlow knows these, but they run Python, which a server has none of.
PYTHON_OPS = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}
# Names of operations that come with TensorFlow Serving have no prefix, or TensorFlow Text's.
TEXT_PREFIX = "TFText>"


def inspect(bundle: str | Path) -> dict[str, Any]:
    """Return what a bundle is.

    Returns:
        ``path``; ``bytes`` and ``files``, of all files; ``products``, ``users``, ``index`` (``kind`` and ``recall@10``)
        and ``serving``, as exported; ``signatures``: name to ``inputs`` and ``outputs``, each name to ``dtype`` and
        ``shape`` (``None`` where any length is); ``ops``: how many kinds of operations there are; and
        ``missing_in_stock_serving``: the names of those that stock TensorFlow Serving lacks.

    Raises:
        UserError: `bundle` is no bundle, or is damaged.
    """
    bundle = Path(bundle)
    if not bundle.is_dir():
        raise UserError(f"{bundle}: {'is a file' if bundle.exists() else 'no such directory'}; give a bundle.")
    if not (bundle / "saved_model.pb").is_file():
        versions = sorted((int(path.name) for path in bundle.iterdir() if path.name.isdecimal()), reverse=True)
        instead = f"give one of its versions, such as {bundle / str(versions[0])}" if versions else "export one first"
        raise UserError(f"{bundle}: is no bundle, saved_model.pb is missing; {instead}.")
    about = read_json(bundle, "bundle.json")
    check_files(bundle)
    files = [path for path in bundle.rglob("*") if path.is_file()]
    signatures, ops = _read_graph(bundle / "saved_model.pb")
    try:
        return {
            "path": str(bundle),
            "bytes": sum(path.stat().st_size for path in files),
            "files": len(files),
            "products": about["products"],
            "users": about["users"],
            "index": {"kind": about["index"]["kind"], "recall@10": about["index"]["recall@10"]},
            "serving": about["serving"],
            "signatures": signatures,
            "ops": len(ops),
            "missing_in_stock_serving": [name for name in sorted(ops) if not in_stock_serving(name)],
        }
    except (KeyError, TypeError) as error:
        raise UserError(f"{bundle / EXTRA / 'bundle.json'}: is damaged, it lacks {error}; export again.") from None


def check_files(bundle: Path) -> None:
    """Refuse a bundle that lacks a file of its list, or has one of another size.

    Raises:
        UserError: which file it is, or that the list cannot be read.
    """
    listed = read_json(bundle, "files.json").get("files")
    if not isinstance(listed, dict) or not listed:
        raise UserError(f"{bundle / EXTRA / 'files.json'}: is damaged, it lists no files; copy or export it again.")
    for name, entry in listed.items():
        path = bundle / name
        if not path.is_file():
            raise UserError(f"{path}: is missing, but files.json lists it; copy or export the bundle again.")
        wanted = entry.get("bytes") if isinstance(entry, dict) else None
        found = path.stat().st_size
        if found != wanted:
            raise UserError(f"{path}: has {found} bytes, but files.json says {wanted}; copy or export it again.")


def in_stock_serving(op: str) -> bool:
    """Say whether stock TensorFlow Serving, which links TensorFlow's and TensorFlow Text's operations, has this one."""
    import tensorflow_text  # noqa: F401 (registers its operations)
    from tensorflow.python.framework import op_def_registry

    if op in PYTHON_OPS or (">" in op and not op.startswith(TEXT_PREFIX)):
        return False
    return op_def_registry.get(op) is not None


def report(about: dict[str, Any]) -> str:
    """Return what `inspect` found as lines of text."""
    index = about["index"]
    lines = [
        f"{about['path']}: {about['products']:,} products, {about['users']:,} users, "
        f"{about['bytes'] / 1e6:.1f} MB in {about['files']} files",
        f"index: {index['kind']}, recall@10 {index['recall@10']:.4f} against exact search",
        f"answers: {', '.join(f'{name} {value}' for name, value in about['serving'].items())}",
        "signatures:",
    ]
    for name, signature in sorted(about["signatures"].items()):
        lines.append(f"  {name}")
        for side, arrow in (("inputs", "<-"), ("outputs", "->")):
            lines += [
                f"    {arrow} {key}: {tensor['dtype']} {_shape(tensor['shape'])}"
                for key, tensor in sorted(signature[side].items())
            ]
    missing = about["missing_in_stock_serving"]
    lines.append(f"operations: {about['ops']} kinds; stock TensorFlow Serving lacks {', '.join(missing) or 'none'}")
    return "\n".join(lines)


def _shape(shape: list[int | None] | None) -> str:
    if shape is None:
        return "[...]"
    return f"[{', '.join('?' if length is None else str(length) for length in shape)}]"


def read_json(bundle: Path, name: str) -> dict[str, Any]:
    """Return a JSON object out of ``assets.extra``.

    Raises:
        UserError: it is missing or damaged.
    """
    path = bundle / EXTRA / name
    if not path.is_file():
        raise UserError(f"{bundle}: is no bundle of tfrs-shop, {EXTRA}/{name} is missing; export it again.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: is damaged ({error}); copy or export the bundle again.") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: is damaged, it is no JSON object; copy or export the bundle again.")
    return content


def _read_graph(path: Path) -> tuple[dict[str, Any], set[str]]:
    """Return the signatures of a saved_model.pb, and the names of all operations, those in functions as well."""
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    try:
        saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    except DecodeError:
        raise UserError(f"{path}: is damaged, it is no SavedModel; copy or export the bundle again.") from None

    def tensors(infos: Any) -> dict[str, Any]:
        return {
            name: {
                "dtype": tf.dtypes.as_dtype(info.dtype).name,
                "shape": None if info.tensor_shape.unknown_rank else tf.TensorShape(info.tensor_shape).as_list(),
            }
            for name, info in sorted(infos.items())
        }

    signatures: dict[str, Any] = {}
    ops: set[str] = set()
    for graph in saved.meta_graphs:
        for name, signature in graph.signature_def.items():
            if not name.startswith("__"):
                signatures[name] = {"inputs": tensors(signature.inputs), "outputs": tensors(signature.outputs)}
        functions = graph.graph_def.library.function
        ops.update(node.op for node in graph.graph_def.node)
        ops.update(node.op for function in functions for node in function.node_def)
        ops.difference_update(function.signature.name for function in functions)
    return signatures, ops
