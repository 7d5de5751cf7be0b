"""The reader of flax's msgpack: what is written comes back, and nothing else comes through."""

from __future__ import annotations

from pathlib import Path

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from helpers.flax_files import chunked, packed, write_arrays
from octo_bench.checkpoints.arrays import read_arrays
from octo_bench.errors import BadCheckpoint

FEW = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
CODES = ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8")
DTYPES = st.sampled_from([np.dtype(code) for code in CODES])
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, max_side=4)
ARRAYS = hnp.arrays(DTYPES, SHAPES)
KEYS = st.text(st.characters(exclude_characters="/", codec="utf-8"), min_size=1, max_size=5)


@FEW
@given(st.dictionaries(KEYS, ARRAYS, max_size=4))
def test_arrays_come_back_as_they_were(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    path = tmp_path / "arrays"
    path.write_bytes(msgpack.packb({"a": {k: packed(v) for k, v in arrays.items()}}))
    read = read_arrays(path)
    assert read.keys() == {f"a/{key}" for key in arrays}
    for key, array in arrays.items():
        assert read[f"a/{key}"].dtype == array.dtype
        np.testing.assert_array_equal(read[f"a/{key}"], array)


@FEW
@given(ARRAYS, st.data())
def test_arrays_in_pieces_come_back_whole(
    tmp_path: Path, array: np.ndarray, data: st.DataObject
) -> None:
    ends = st.lists(st.integers(1, max(1, array.size - 1)), unique=True, max_size=3).map(sorted)
    cuts = data.draw(ends) if array.size > 1 else []
    path = tmp_path / "arrays"
    write_arrays(path, {"a/b": chunked(array, cuts)})
    np.testing.assert_array_equal(read_arrays(path)["a/b"], array)


def test_scalars_and_numbers_are_arrays_without_axes(tmp_path: Path) -> None:
    path = tmp_path / "arrays"
    complex_number = msgpack.ExtType(2, msgpack.packb((1.0, -2.0)))
    scalar = packed(np.asarray(1.5, np.float32), code=3)
    write_arrays(path, {"a": scalar, "b": 3, "c": True, "d": 0.5, "e": complex_number})
    read = read_arrays(path)
    assert {name: value.item() for name, value in read.items()} == {
        "a": 1.5,
        "b": 3,
        "c": True,
        "d": 0.5,
        "e": 1 - 2j,
    }
    assert read["a"].dtype == np.float32 and all(value.shape == () for value in read.values())


def test_bfloat16_is_widened(tmp_path: Path) -> None:
    values = np.asarray([[1.0, -2.5], [0.0, 3.0e38]], np.float32)
    halves = (values.view(np.uint32) >> 16).astype(np.uint16)
    content = msgpack.packb((values.shape, "bfloat16", halves.tobytes()))
    write_arrays(tmp_path / "arrays", {"a": msgpack.ExtType(1, content)})
    read = read_arrays(tmp_path / "arrays")["a"]
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, values, rtol=2**-7)


def ext(*fields: object, code: int = 1) -> msgpack.ExtType:
    return msgpack.ExtType(code, msgpack.packb(fields))


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("PLACEHOLDER://a/b", "'a/b' is the text 'PLACEHOLDER://a/b'"),
        (ext([1], "object", b"12345678"), "'a/b' has the dtype 'object'"),
        (ext([1], "O", b"12345678"), "'a/b' has the dtype 'O'"),
        (ext([1], "V8", b"12345678"), "'a/b' has the dtype 'V8'"),
        (ext([2], "float32", b"1234"), "'a/b' of shape [2] has 4 bytes, not 8"),
        (ext([2**62, 4], "float32", b""), "of shape [4611686018427387904, 4] has 0 bytes"),
        (ext([-1], "float32", b""), "has the shape [-1]"),
        (ext([0, 2**62, 2**62], "float32", b""), "has the shape [0,"),
        (ext([1.0], "float32", b"1234"), "has the shape [1.0]"),
        (ext([1] * 40, "float32", b"1234"), "'a/b' is damaged"),
        (ext("4", "float32", b"1234"), "'a/b' is not list and str and bytes"),
        (ext([1], "float32"), "'a/b' is not list and str and bytes"),
        (ext([1], "float32", b"1234", code=3), "'a/b' is a scalar with axes"),
        (ext([1], "float32", b"1234", code=7), "'a/b' has the unknown type 7"),
        (ext("1", 2.0, code=2), "'a/b' is not float and float"),
        (msgpack.ExtType(1, b"\xc1"), "'a/b' is damaged"),
        (None, "'a/b' is not an array"),
        ({"__msgpack_chunked_array__": True}, "'a/b' is in pieces without a 'shape'"),
        (
            {"__msgpack_chunked_array__": True, "shape": {"1": 2}, "chunks": {}},
            "'a/b' is in pieces without a 'shape'",
        ),
        (
            {**chunked(np.zeros(4), [2]), "shape": {"0": 5}},
            "'a/b' of shape [5] has 4 entries",
        ),
        (
            {
                **chunked(np.zeros(2), []),
                "chunks": {"0": packed(np.zeros(1)), "1": ext([1], "u1", b"")},
            },
            "'a/b' has the dtype 'u1'",
        ),
        ({"c/d": 1}, "has the key 'c/d' in 'a/b'"),
    ],
)
def test_what_is_no_array_is_named(tmp_path: Path, value: object, problem: str) -> None:
    path = tmp_path / "arrays"
    write_arrays(path, {"a/b": value})
    with pytest.raises(BadCheckpoint) as error:
        read_arrays(path)
    assert str(error.value).startswith(f"{path}: ") and problem in str(error.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"version https://git-lfs.github.com/spec/v1\n",
        b"\x93\x01\x02\x03",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\x81" * 100_000 + b"\x01",
        b"\x81\x80\x01",
        b"\x81\xc4\x00\x01",
        b"\x81\xa1\xff\x01",
        b"\x81\xa1a\xc7\x0c\xff" + b"\xff" * 12,
    ],
)
def test_what_is_no_map_of_arrays_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "arrays").write_bytes(content)
    with pytest.raises(BadCheckpoint):
        read_arrays(tmp_path / "arrays")


def test_a_deep_tree_is_refused(tmp_path: Path) -> None:
    write_arrays(tmp_path / "arrays", {"/".join("a" * 100): np.zeros(1)})
    with pytest.raises(BadCheckpoint, match="has the key 'a'"):
        read_arrays(tmp_path / "arrays")


@settings(FEW, max_examples=400)
@given(st.data())
def test_a_damaged_file_is_refused_or_read_but_nothing_else(
    tmp_path: Path, data: st.DataObject
) -> None:
    path = tmp_path / "arrays"
    arrays = {"a/b": np.arange(6.0).reshape(2, 3), "a/c": chunked(np.arange(4), [1]), "d": 1}
    write_arrays(path, arrays)
    content = bytearray(path.read_bytes())
    places = st.integers(0, len(content) - 1)
    for place in data.draw(st.lists(places, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.just(len(content)) | places)]
    path.write_bytes(content)
    try:
        read = read_arrays(path)
    except BadCheckpoint:
        return
    assert all(isinstance(array, np.ndarray) for array in read.values())
