import json
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from support.tiny import tiny_model

from paraknow_core.checkpoint.reader import TORCH_DTYPES, Checkpoint
from paraknow_core.checkpoint.safetensors_header import BYTES_PER_ELEMENT
from paraknow_core.errors import CheckpointError, ModelFolderError


@pytest.mark.parametrize("shard", [None, "20KB"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_reads_what_the_library_reads(tmp_path, dtype, shard):
    folder = tiny_model(tmp_path, "qwen3", dtype=dtype, max_shard_size=shard)
    expected = {}
    for file in folder.glob("*.safetensors"):
        expected |= load_file(file)
    with Checkpoint(folder) as checkpoint:
        assert checkpoint.names == tuple(sorted(expected))
        for name, tensor in expected.items():
            assert (checkpoint.shape(name), checkpoint.dtype(name)) == (tuple(tensor.shape), dtype)
            assert torch.equal(checkpoint.read(name), tensor)


def test_every_known_element_type_has_its_size_in_torch():
    assert {n: d.itemsize for n, d in TORCH_DTYPES.items()} == dict(BYTES_PER_ELEMENT)


@settings(max_examples=50)
@given(data=st.data())
def test_a_rectangle_is_the_same_as_that_of_the_whole(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("maps")
    shape = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    whole = torch.randn(shape)
    save_file({"m": whole}, folder / "layer-0000.safetensors")
    row, col = (sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in shape)
    part = Checkpoint(folder).read_slice("m", slice(*row), slice(*col))
    assert part.is_contiguous()
    assert torch.equal(part, whole[slice(*row), slice(*col)])


@pytest.mark.parametrize("bad", [slice(0, 5), slice(-1, 2), slice(3, 2), slice(0, 4, 2)])
def test_a_rectangle_that_leaves_the_matrix_is_refused(tmp_path, bad):
    save_file({"m": torch.ones(4, 4), "v": torch.ones(4)}, tmp_path / "a.safetensors")
    checkpoint = Checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match=r"rows .*'m'.*0\.\.4"):
        checkpoint.read_slice("m", bad, slice(None))
    with pytest.raises(CheckpointError, match=r"columns .*'m'.*0\.\.4"):
        checkpoint.read_slice("m", slice(None), bad)
    with pytest.raises(CheckpointError, match=r"'v'.*no matrix"):
        checkpoint.read_slice("v", slice(None), slice(None))


def test_writing_to_a_tensor_leaves_the_file_alone(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"m": torch.ones(4, 4)}, path)
    before = path.read_bytes()
    path.chmod(0o444)
    with Checkpoint(tmp_path) as checkpoint:
        tensor = checkpoint.read("m")
        tensor.zero_()
    assert path.read_bytes() == before
    assert torch.equal(Checkpoint(tmp_path).read("m"), torch.ones(4, 4))


def test_a_tensor_at_an_odd_place_is_read(tmp_path):
    header = json.dumps(
        {
            "a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
            "b": {"dtype": "F32", "shape": [2], "data_offsets": [1, 9]},
        }
    ).encode()
    data = b"\7" + struct.pack("<ff", 1.5, -2.0)
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + data)
    checkpoint = Checkpoint(tmp_path)
    assert checkpoint.read("a").tolist() == [7]
    assert checkpoint.read("b").tolist() == [1.5, -2.0]


def test_scalars_and_empty_tensors(tmp_path):
    save_file({"s": torch.tensor(3.0), "e": torch.zeros(0, 5)}, tmp_path / "x.safetensors")
    checkpoint = Checkpoint(tmp_path)
    assert checkpoint.read("s").item() == 3.0
    assert checkpoint.read("e").shape == (0, 5)


def test_maps_of_several_files_without_an_index(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "layer-0000.safetensors")
    save_file({"b": torch.zeros(2)}, tmp_path / "layer-0001.safetensors")
    assert Checkpoint(tmp_path).names == ("a", "b")
    save_file({"a": torch.ones(2)}, tmp_path / "layer-0001.safetensors")
    with pytest.raises(CheckpointError, match=r"'a'.*layer-0000.*layer-0001"):
        Checkpoint(tmp_path)


def test_missing_things_are_named(tmp_path):
    with pytest.raises(ModelFolderError, match="no safetensors file"):
        Checkpoint(tmp_path)
    with pytest.raises(ModelFolderError, match="no such folder"):
        Checkpoint(tmp_path / "gone")
    save_file({"a": torch.ones(2)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=r"'b'.*a"):
        Checkpoint(tmp_path).read("b")
