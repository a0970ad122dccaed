"""Simplify an exported ONNX graph: fold constants and batch norms, remove what changes nothing.

The exporter's own optimiser does the same, but for one rule it goes through the whole graph again for every
node, which took a third of an export of 760 nodes and grows with their square.
"""
from __future__ import annotations

from typing import Any

_NAMES = (
    'sub_0', 'div_by_1', 'dropout_zero', 'dropout_inference', 'two_reshapes_matmul_reshape',
    'one_reshape_matmul_reshape', 'cast_constant_of_shape', 'cast_constant_of_shape_without_value',
    'collapse_slice', 'collapse_slice2', 'materialize_reshape_shape', 'min_min', 'max_max', 'min_max',
    'max_min', 'successive_clip_relu', 'successive_relu_clip', 'successive_relu', 'successive_clip',
    'cast_cast', 'no_op_cast', 'no_op_expand', 'flatten_to_reshape', 'reshape_reshape', 'no_op_transpose',
    'transpose_transpose', 'unsqueeze_unsqueeze', 'squeeze_reshape_1d', 'no_op_dynamic_scatter_nd',
    'no_op_static_scatter_nd', 'normalize_pad_format_conv', 'fuse_pad_into_conv', 'fuse_batchnorm_into_conv',
    'fuse_batchnorm_into_conv_transpose', 'fuse_batchnorm_into_gemm', 'remove_optional_bias_from_conv',
    'remove_optional_bias_from_conv_transpose', 'remove_optional_bias_from_gemm')
"""onnxscript's rules, in the order in which its optimiser tries them; `slice_split` alone is left out."""


def simplify(model: Any) -> None:
    """Simplify an `onnx_ir.Model` in place."""
    from onnx_ir import passes
    from onnx_ir.passes import common
    from onnxscript.optimizer import fold_constants_ir
    from onnxscript.rewriter import RewritePass

    # what one round frees, the next one folds
    common.InlinePass()(model)
    rewrite = RewritePass(_rules())
    for _ in range(2):
        folded = fold_constants_ir(model, onnx_shape_inference=True)
        rewritten = rewrite(model)
        common.RemoveUnusedNodesPass()(model)
        if not (folded.modified or rewritten.modified):
            break

    clean_up = passes.Sequential(
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedFunctionsPass(),
        common.RemoveUnusedOpsetsPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.OutputFixPass(),
        common.NameFixPass(),
    )
    clean_up(model)


def _rules() -> list[Any]:
    from onnxscript.rewriter.rules import common as rules
    either_way = [rules.mul_by_1_rule, rules.add_0_rule]
    return [
        *(turned for rule in either_way for turned in rule.commute()),
        *(getattr(rules, f'{name}_rule') for name in _NAMES)]
