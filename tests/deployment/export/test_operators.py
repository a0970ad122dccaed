"""The walk over a graph finds what an engine without plugins cannot hold, and nothing in what we export."""
from __future__ import annotations

from pathlib import Path

import pytest

from perception.deployment.export.operators import DEFAULT_TABLE, read_operator_table, walk
from tests.deployment.conftest import Exported

onnx = pytest.importorskip('onnx')
helper, FLOAT, INT64 = onnx.helper, onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
SHARED_TABLE = Path(__file__).resolve().parents[4] / 'shared' / 'tensorrt_operators.csv'


def write(
    path: Path,
    nodes: list,
    shape: tuple = (1, 4),
    opset: int = 18,
    constants: dict | None = None,
    dtype: int = FLOAT,
    out_dtype: int = FLOAT,
    domains: tuple[str, ...] = (),
) -> Path:
    """A graph x -> y of some nodes."""
    import numpy as np
    graph = helper.make_graph(
        nodes, 'g', [helper.make_tensor_value_info('x', dtype, shape)],
        [helper.make_tensor_value_info('y', out_dtype, (1,))],
        [onnx.numpy_helper.from_array(np.asarray(v), n) for n, v in (constants or {}).items()])
    imports = [helper.make_opsetid('', opset), *(helper.make_opsetid(d, 1) for d in domains)]
    onnx.save(helper.make_model(graph, opset_imports=imports), path)
    return path


def reasons(path: Path) -> str:
    return '\n'.join(str(v) for v in walk(path))


def test_our_graph_holds_nothing_that_needs_a_plugin(exported: Exported):
    assert walk(exported.folder / 'network.onnx') == []


def test_our_table_is_the_shared_one_and_our_graph_passes_it(exported: Exported):
    if not SHARED_TABLE.is_file():
        pytest.skip(f'{SHARED_TABLE} is not here')
    assert read_operator_table(SHARED_TABLE) == read_operator_table(DEFAULT_TABLE)
    assert walk(exported.folder / 'network.onnx', SHARED_TABLE) == []


@pytest.mark.parametrize(
    ('node', 'options', 'expected'),
    [
        (dict(op='NonZero', inputs=['x']), dict(out_dtype=INT64), 'depends on data'),
        (dict(op='Det', inputs=['x']), dict(shape=(4, 4)), 'not supported without a plugin'),
        (
            dict(op='GridSample', inputs=['x', 'g']),
            dict(shape=(1, 2, 3, 4, 5), constants={'g': [[[[[0.0] * 3]]]]}), '5 dimensions'),
        (
            dict(op='ScatterND', inputs=['x', 'i', 'u'], reduction='add'),
            dict(shape=(4,), constants={'i': [[0]], 'u': [1.0]}), "reduction 'add'"),
        (
            dict(op='Slice', inputs=['x', 's', 'e', 'x']), dict(constants={'s': [0], 'e': [1]}, dtype=INT64),
            'must be constant'),
        (
            dict(op='Resize', inputs=['x', '', 'f'], mode='cubic'), dict(constants={'f': [1.0, 2.0]}),
            'mode cubic'),
        (dict(op='Relu', inputs=['x']), dict(dtype=onnx.TensorProto.DOUBLE), ''),
        (dict(op='Sqrt', inputs=['x']), dict(dtype=onnx.TensorProto.INT32), 'type INT32'),
    ],
)
def test_each_restriction_is_found(tmp_path: Path, node: dict, options: dict, expected: str):
    attributes = {k: v for k, v in node.items() if k not in ('op', 'inputs')}
    path = write(
        tmp_path / 'g.onnx', [helper.make_node(node['op'], node['inputs'], ['y'], name='n', **attributes)],
        **options)
    assert expected in reasons(path)


@pytest.mark.parametrize(('k', 'bad'), [(3839, False), (3840, True)])
def test_top_k_is_bounded(tmp_path: Path, k: int, bad: bool):
    nodes = [helper.make_node('TopK', ['x', 'k'], ['y', 'i'], name='n')]
    path = write(tmp_path / 'g.onnx', nodes, shape=(1, 5000), constants={'k': [k]})
    assert ('must be under 3840' in reasons(path)) is bad


def test_a_max_pool_that_gives_indices_and_a_zero_point_are_found(tmp_path: Path):
    import numpy as np
    pool = helper.make_node('MaxPool', ['x'], ['y', 'indices'], name='n', kernel_shape=[2, 2])
    assert 'Indices' in reasons(write(tmp_path / 'pool.onnx', [pool], shape=(1, 1, 4, 4)))
    quantise = helper.make_node('QuantizeLinear', ['x', 's', 'z'], ['y'], name='n')
    constants = {'s': np.float32(1), 'z': np.int8(3)}
    assert 'zero point' in reasons(
        write(tmp_path / 'q.onnx', [quantise], constants=constants, out_dtype=onnx.TensorProto.INT8)
    )


def test_opset_plugins_and_free_shapes_are_found(tmp_path: Path):
    plain = [helper.make_node('Relu', ['x'], ['y'], name='n')]
    assert 'opset 21' in reasons(write(tmp_path / 'new.onnx', plain, opset=21))
    assert 'not fixed' in reasons(write(tmp_path / 'free.onnx', plain, shape=('batch', 4)))
    foreign = [helper.make_node('Relu', ['x'], ['y'], name='n', domain='my.ops')]
    assert "'my.ops' are plugins" in reasons(write(tmp_path / 'plugin.onnx', foreign, domains=('my.ops',)))


def test_a_table_without_its_columns_is_refused(tmp_path: Path):
    (tmp_path / 't.csv').write_text('operator,supported\nRelu,yes\n')
    with pytest.raises(ValueError, match='restriction'):
        read_operator_table(tmp_path / 't.csv')
