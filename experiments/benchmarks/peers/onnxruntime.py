"""ONNX Runtime: its own LSTM, which stops at the end of each text. It only predicts."""

from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from experiments.benchmarks import peers

_GATES = [0, 3, 1, 2]  # from (i, f, g, o) to ONNX' (i, o, f, g)


def predict(weights: str, threads: int, **files: str) -> dict[str, Any]:
    """Label a file of texts with the parameters of a run."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    model = _model(np.load(weights)).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def classify(ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        return session.run(None, {"ids": np.ascontiguousarray(ids.T), "lengths": lengths.astype(np.int32)})[0]

    peers.label_file(classify, **files)
    return {}


def _model(saved: Any) -> Any:
    """Return the ONNX model `(ids int64 [L, B], lengths int32 [B]) -> probabilities of the second class [B]`."""

    def of_gates(array: np.ndarray) -> np.ndarray:
        return np.concatenate([np.split(array.T, 4)[gate] for gate in _GATES])[None]

    bias = of_gates(saved["forwards_0/bias"])
    constants = {
        "embedding": saved["embedding/embedding"],
        "W": of_gates(saved["forwards_0/kernel"]),
        "R": of_gates(saved["forwards_0/recurrent_kernel"]),
        "b": np.concatenate([bias, np.zeros_like(bias)], axis=1),
        "head": saved["head/kernel"],
        "head_bias": saved["head/bias"],
        "axes": np.array([0]),
        "all": np.array([-1]),
    }
    nodes = [
        helper.make_node("Gather", ["embedding", "ids"], ["x"]),
        helper.make_node("LSTM", ["x", "W", "R", "b", "lengths"], ["", "h"], hidden_size=peers.HIDDEN_SIZE),
        helper.make_node("Squeeze", ["h", "axes"], ["last"]),
        helper.make_node("Gemm", ["last", "head", "head_bias"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["columns"]),
        helper.make_node("Reshape", ["columns", "all"], ["p"]),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["L", "B"]),
            helper.make_tensor_value_info("lengths", TensorProto.INT32, ["B"]),
        ],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, ["B"])],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


if __name__ == "__main__":
    peers.answer({"predict": predict})
