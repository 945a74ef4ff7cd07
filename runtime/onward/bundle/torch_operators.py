"""Operators of PyTorch that a .pt2 or TorchScript file may use.

A model computes with tensors. An operator of PyTorch does more only if it is told what to touch: a file by its name
(`from_file`, `save`), memory of another tensor or size (`set_`, `resize_`). A test looks through the arguments of every
operator of the installed PyTorch for such ones. Private operators, which check their arguments less, are admitted one
by one.
"""

from __future__ import annotations

import re

__all__ = ["is_allowed"]

#: Public operators of aten that reach files, memory behind a tensor's end, or other processes.
REFUSED = frozenset(
    re.findall(
        r"\S+",
        """
    from_file save load set set_ set_data resize resize_ resize_as resize_as_ resize_as_sparse resize_as_sparse_
    sparse_resize_ sparse_resize_and_clear_ record_stream share_memory_ data_ptr from_blob
    to_here local_value owner owner_name is_owner confirmed_by_owner wait
    """,
    )
)
#: Private operators that exported programs use.
PRIVATE = frozenset(
    re.findall(
        r"\S+",
        """
    __and__ __or__ __xor__ __iand__ __ior__ __ixor__ __lshift__ __rshift__ __ilshift__ __irshift__
    __contains__ __getitem__ __derive_index __is__ __isnot__ __not__ __range_length __round_to_zero_floordiv
    __interpolate __upsample __upsample_bilinear __upsample_nearest
    _adaptive_avg_pool2d _adaptive_avg_pool3d _add_relu _add_relu_ _addmm_activation _aminmax _assert_async
    _assert_scalar _assert_tensor_metadata _autocast_to_full_precision _autocast_to_reduced_precision
    _batch_norm_impl_index _batch_norm_no_update _batch_norm_with_update _cast_Byte _cast_Char _cast_Double _cast_Float
    _cast_Half _cast_Int _cast_Long _cast_Short _cdist_forward _chunk_cat _conj _conj_physical _conv_depthwise2d
    _convolution _convolution_mode _dim_arange _embedding_bag _embedding_bag_forward_only _euclidean_dist
    _fft_c2c _fft_c2r _fft_r2c _foreach_add _foreach_mul _functional_assert_async _functional_assert_scalar
    _functional_sym_constrain_range _functional_sym_constrain_range_for_size _fused_rms_norm _fused_sdp_choice
    _grouped_mm _infer_size _int_mm _is_all_true _is_any_true _linalg_det _linalg_eigh _linalg_slogdet _linalg_solve_ex
    _linalg_svd _list_to_tensor _local_scalar_dense _log_softmax _logcumsumexp _lu_with_info _masked_softmax
    _native_batch_norm_legit _native_batch_norm_legit_functional _native_batch_norm_legit_no_training
    _native_multi_head_attention _neg_view _pack_padded_sequence _pad_circular _pad_enum _pad_packed_sequence
    _prelu_kernel _reshape_copy _safe_softmax _scaled_dot_product_attention_math
    _scaled_dot_product_cudnn_attention _scaled_dot_product_efficient_attention _scaled_dot_product_flash_attention
    _scaled_dot_product_flash_attention_for_cpu _scaled_mm _set_item _shape_as_tensor _size_if_not_equal _softmax _stack
    _tensor_to_list _thnn_fused_gru_cell _thnn_fused_lstm_cell _to_copy _transform_bias_rescale_qkv
    _transformer_encoder_layer_fwd _trilinear _unique _unique2 _unsafe_index _unsafe_index_put _unsafe_masked_index
    _unsafe_masked_index_put_accumulate _unsafe_view _unwrap_optional _upsample_bicubic2d_aa _upsample_bilinear2d_aa
    _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d _weight_norm _weight_norm_interface
    """,
    )
)
#: Operators of TorchScript's own language.
PRIM = frozenset(
    re.findall(
        r"\S+",
        """
    EnumName EnumValue IfThenElse NumToTensor RaiseException TupleIndex TupleUnpack Uninitialized abs data device dtype
    is_cpu is_cuda is_meta is_mkldnn is_mps is_nested is_quantized is_sparse is_xla is_xpu itemsize layout max min name
    rangelist requires_grad tolist type unchecked_cast unchecked_unwrap_optional ModuleContainerIndex
    """,
    )
)
#: Operators of torchvision's layers. Those that read images are in another namespace.
TORCHVISION = frozenset(
    re.findall(r"\S+", "box_iou_rotated deform_conv2d nms ps_roi_align ps_roi_pool qnms qroi_align roi_align roi_pool")
)
#: Operators with graphs as arguments, whose nodes are checked, too.
HIGHER_ORDER = frozenset(
    re.findall(r"\S+", "associative_scan cond map_impl scan while_loop wrap_with_autocast wrap_with_set_grad_enabled")
)


def is_allowed(namespace: str, name: str) -> bool:
    """Whether a file may use the operator `namespace::name`."""
    if namespace == "aten":
        return name in PRIVATE if name.startswith("_") else name.isidentifier() and name not in REFUSED
    return name in {"prim": PRIM, "torchvision": TORCHVISION, "higher_order": HIGHER_ORDER}.get(namespace, ())
