"""Tensor files of other programs are read as float32, others can read ours, and damage is reported."""

import json
import struct

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from safetensors import safe_open

from research.data.safetensors import read_tensors, write_tensors
from research.errors import UserError

KINDS = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16, "I64": np.int64}


def write(path, tensors, **changes):
    """Write name -> (type, array) by the format's description; `changes` replace fields of a tensor's header."""
    header, body = {"__metadata__": {"format": "pt"}}, b""
    for name, (kind, array) in tensors.items():
        content = np.asarray(array, KINDS[kind]).tobytes()
        header[name] = {
            "dtype": kind,
            "shape": list(np.shape(array)),
            "data_offsets": [len(body), len(body) + len(content)],
        } | changes.get(name, {})
        body += content
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return path


def test_every_type_of_float_becomes_float32_and_integers_are_left_out(tmp_path):
    values = np.array([[1.5, -2.0, 0.0], [3.25, 0.5, 2.0**-14]])
    kinds = ("F64", "F32", "F16", "BF16")
    file = write(tmp_path / "x.safetensors", {kind: (kind, values) for kind in kinds} | {"ids": ("I64", [[0, 1]])})
    found = read_tensors(file)
    assert set(found) == set(kinds)
    for tensor in found.values():
        assert tensor.dtype == np.float32
        np.testing.assert_array_equal(tensor, values)


shapes = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
floats = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(
    st.dictionaries(
        st.text(max_size=8).filter("__metadata__".__ne__), arrays.arrays(np.float32, shapes, elements=floats)
    )
)
def test_what_is_written_is_read_to_the_bit(tmp_path_factory, tensors):
    path = tmp_path_factory.mktemp("written") / "x.safetensors"
    write_tensors(path, tensors, {"format": "pt"})
    found = read_tensors(path)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].shape == tensor.shape
        assert found[name].tobytes() == tensor.tobytes()


def test_transposed_tensors_are_written_as_they_read(tmp_path):
    tensor = np.arange(6, dtype=np.float32).reshape(2, 3).T
    write_tensors(tmp_path / "x.safetensors", {"a": tensor}, {"format": "pt"})
    np.testing.assert_array_equal(read_tensors(tmp_path / "x.safetensors")["a"], tensor)
    with safe_open(tmp_path / "x.safetensors", framework="numpy") as file:
        assert file.metadata() == {"format": "pt"}  # transformers refuses a file without it


def test_tensors_shared_out_among_files_are_those_of_one(tmp_path):
    random = np.random.default_rng(0)
    tensors = {name: random.normal(size=(2, 3)).astype(np.float32) for name in "abc"}
    write(tmp_path / "model-1.safetensors", {name: ("F32", tensors[name]) for name in "ac"})
    write(tmp_path / "model-2.safetensors", {"b": ("F32", tensors["b"])})
    index = tmp_path / "model.safetensors.index.json"
    places = {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    found = read_tensors(tmp_path / "model.safetensors")
    assert all((found[name] == tensors[name]).all() for name in "abc")
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(UserError, match=r"model-2\.safetensors: damaged or no safetensors file"):
        read_tensors(tmp_path / "model.safetensors")
    for wrong in ("{", "[]", '{"weight_map": 1}', "{}"):
        index.write_text(wrong)
        with pytest.raises(UserError, match=r"index\.json: .*expected a weight_map"):
            read_tensors(tmp_path / "model.safetensors")
    index.unlink()
    with pytest.raises(UserError, match="no such file"):
        read_tensors(tmp_path / "model.safetensors")


def test_a_type_of_number_that_no_model_starts_from_is_named(tmp_path):
    file = write(tmp_path / "x.safetensors", {"a": ("F32", np.ones((2, 3)))}, a={"dtype": "F8_E4M3", "shape": [4, 6]})
    with pytest.raises(UserError, match=r"x\.safetensors: a has numbers of type F8_E4M3, expected F64, F32"):
        read_tensors(file)


def test_a_header_that_contradicts_the_content_is_refused(tmp_path):
    file = write(tmp_path / "x.safetensors", {"a": ("F32", np.ones((2, 3)))}, a={"shape": [2, 4]})
    with pytest.raises(UserError, match=r"x\.safetensors: damaged or no safetensors file"):
        read_tensors(file)


def test_a_file_cut_anywhere_or_too_long_is_a_sentence(tmp_path):
    file = write(tmp_path / "x.safetensors", {"a": ("F32", np.ones((2, 3))), "b": ("I64", [1])})
    content = file.read_bytes()
    for damaged in [*(content[:length] for length in range(len(content))), content + b"\0", b"\xff" * 40]:
        file.write_bytes(damaged)
        with pytest.raises(UserError, match="damaged or no safetensors file"):
            read_tensors(file)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_not_finite_is_named(tmp_path, value):
    file = write(tmp_path / "x.safetensors", {"a": ("F32", [1.0]), "b": ("F16", [1.0, value])})
    with pytest.raises(UserError, match="b has numbers that are not finite"):
        read_tensors(file)
