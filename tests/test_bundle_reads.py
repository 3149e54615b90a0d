"""How the graph of a bundle reads its variables: none that is read as a whole is copied for it."""

import collections
from collections.abc import Iterable, Mapping
from pathlib import Path

from tensorflow.core.framework import node_def_pb2
from tensorflow.core.protobuf import saved_model_pb2


def reads_of_variables(bundle: Path) -> dict[str, set[str]]:
    """Return the names of the operations that read each variable in a signature, through all functions."""
    saved = saved_model_pb2.SavedModel.FromString((bundle / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    functions = {function.signature.name: function for function in graph.library.function}
    reads: dict[str, set[str]] = collections.defaultdict(set)

    def walk(nodes: Iterable[node_def_pb2.NodeDef], known: Mapping[str, str]) -> None:
        names = dict(known)
        for node in nodes:
            given = [names.get(name.split(":")[0]) for name in node.input if not name.startswith("^")]
            called = [value.func.name for value in node.attr.values() if value.HasField("func")]
            called += [one.name for value in node.attr.values() for one in value.list.func]
            if node.op == "VarHandleOp":
                names[node.name] = node.attr["shared_name"].s.decode()
            elif node.op == "Identity" and given[0]:
                names[node.name] = given[0]
            elif called:
                # The first input of a condition is what it depends on.
                taken = given[1:] if node.op.endswith(("If", "Case")) else given
                for name in set(called) & set(functions):
                    arguments = zip(functions[name].signature.input_arg, taken, strict=True)
                    walk(functions[name].node_def, {argument.name: is_ for argument, is_ in arguments if is_})
            else:
                for name in filter(None, given):
                    reads[name].add(node.op)

    # Not the functions that save and restore: they read everything.
    signatures = (node for node in graph.node if "signature_wrapper" in node.attr["f"].func.name)
    walk([*(node for node in graph.node if node.op == "VarHandleOp"), *signatures], {})
    return reads


def test_what_is_read_as_a_whole_is_never_gathered_from_as_a_resource(bundle) -> None:
    reads = reads_of_variables(bundle)
    dense = {name for name, ops in reads.items() if "ReadVariableOp" in ops}
    gathered = {name for name, ops in reads.items() if "ResourceGather" in ops}
    assert "vectors" in dense
    assert "title" in gathered
    assert dense & gathered == set()
