import dataclasses

import jax
import pytest

from gencompositor_jax import arch as arch_lib
from gencompositor_jax.errors import InputError
from gencompositor_jax.inference import meshes


def with_heads(heads: int) -> arch_lib.ModelArch:
    tiny = arch_lib.tiny()
    stacks = (dataclasses.replace(stack, num_heads=heads) for stack in (tiny.backbone, tiny.branch))
    return dataclasses.replace(tiny, **dict(zip(("backbone", "branch"), stacks, strict=True)))


@pytest.fixture(autouse=True)
def all_devices():
    with jax.default_device(None):
        yield


@pytest.mark.parametrize(
    ("heads", "clips", "expected"),
    [
        (4, 1, {"data": 1, "tensor": 4, "context": 2}),
        (1, 1, {"data": 1, "tensor": 1, "context": 8}),
        (6, 1, {"data": 1, "tensor": 2, "context": 4}),
        (48, 1, {"data": 1, "tensor": 8, "context": 1}),
        (4, 4, {"data": 4, "tensor": 2, "context": 1}),
        (4, 3, {"data": 1, "tensor": 4, "context": 2}),
        (4, 100, {"data": 4, "tensor": 2, "context": 1}),
    ],
)
def test_the_default_uses_all_devices_and_divides_the_heads(heads, clips, expected):
    assert meshes.default_sizes(with_heads(heads), clips, 8) == expected


def test_the_default_device_is_a_mesh_of_its_own():
    with jax.default_device(jax.devices()[3]):
        assert list(meshes.sampling_mesh(with_heads(4)).devices.flat) == jax.devices()[3:4]


def test_fewer_devices_are_the_first_ones():
    mesh = meshes.sampling_mesh(with_heads(4), {"data": 2, "context": 2})
    assert list(mesh.devices.flat) == jax.devices()[:4]
    assert meshes.sampling_mesh(with_heads(4), {"tensor": 2, "context": -1}).shape["context"] == 4


@pytest.mark.parametrize(
    ("sizes", "names"),
    [
        ({"tensor": 8}, "tensor 8 does not divide the network's 4 heads; pass one of 1, 2, 4"),
        ({"data": 3}, "data 3 .* needs 3 devices, there are 8"),
        ({"data": 16}, "needs 16 devices, there are 8"),
        ({"data": -1, "tensor": 3}, "does not divide the 8 devices"),
        ({"data": 0}, "sizes of 1 or more"),
        ({"rows": 8}, "mesh.rows: unknown axis"),
    ],
)
def test_a_mesh_that_does_not_fit_is_refused(sizes, names):
    with pytest.raises(InputError, match=names):
        meshes.sampling_mesh(with_heads(4), sizes)


def test_equal_meshes_share_the_devices():
    found = [
        [device.id for device in mesh.devices.flat]
        for mesh in meshes.equal_meshes({"tensor": 2, "context": 2})
    ]
    assert found == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert [mesh.size for mesh in meshes.equal_meshes({})] == [1] * 8
    for sizes in ({"tensor": 3}, {"context": 16}, {"context": -1}):
        with pytest.raises(InputError, match="mesh"):
            meshes.equal_meshes(sizes)
