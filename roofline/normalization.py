"""Costs of normalizations and softmax: a few FLOP per element, two or three passes of bytes.

FLOP per element (models.md 2.2): norms 5 forward in training (3 statistics, 2 affine), 2 with fixed
statistics, 9 backward; RMS norm 4 and 8; softmax 3 (exp counts as one) and 4.
"""

from collections.abc import Callable
from functools import partial

from perfkit.roofline.cost import OpCost
from perfkit.roofline.inputs import Inputs

TRAINING_FLOP = 5
FIXED_STATISTICS_FLOP = 2
BACKWARD_FLOP = 9
RMS_FLOP = 4
RMS_BACKWARD_FLOP = 8


def _passes(call: Inputs, *, flop: int, main: int = 0, results: int = 1, family: str) -> OpCost:
    """Read every tensor argument once, write `results` tensors like argument `main`."""
    x = call.tensor(main)
    return OpCost(
        family=family,
        flop=flop * x.elements,
        read_bytes=sum(t.bytes for t in call.tensors()),
        written_bytes=results * x.bytes,
        precision=x.precision,
    )


_norm = partial(_passes, family="normalization")
_softmax = partial(_passes, family="softmax")


def _batch_norm(call: Inputs, *, training: int) -> OpCost:
    """A batch norm whose argument `training` says whether statistics are computed."""
    flop = TRAINING_FLOP if call.flag(training) else FIXED_STATISTICS_FLOP
    return _norm(call, flop=flop)


COSTS: dict[str, Callable[[Inputs], OpCost]] = {
    "aten::native_layer_norm": partial(_norm, flop=TRAINING_FLOP),
    "aten::native_layer_norm_backward": partial(_norm, flop=BACKWARD_FLOP),
    "aten::native_group_norm": partial(_norm, flop=TRAINING_FLOP),
    "aten::native_group_norm_backward": partial(_norm, flop=BACKWARD_FLOP),
    "aten::native_batch_norm": partial(_batch_norm, training=5),
    "aten::cudnn_batch_norm": partial(_batch_norm, training=5),
    "aten::miopen_batch_norm": partial(_batch_norm, training=5),
    "aten::_batch_norm_with_update": partial(_norm, flop=TRAINING_FLOP),
    "aten::native_batch_norm_backward": partial(_norm, flop=BACKWARD_FLOP),
    "aten::cudnn_batch_norm_backward": partial(_norm, flop=BACKWARD_FLOP),
    "aten::miopen_batch_norm_backward": partial(_norm, flop=BACKWARD_FLOP),
    "aten::batch_norm_backward": partial(_norm, flop=BACKWARD_FLOP),
    "aten::_fused_rms_norm": partial(_norm, flop=RMS_FLOP),
    "aten::_fused_rms_norm_backward": partial(_norm, flop=RMS_BACKWARD_FLOP),
    "_C::rms_norm": partial(_norm, flop=RMS_FLOP, main=1),
    "aten::_softmax": partial(_softmax, flop=3),
    "aten::_log_softmax": partial(_softmax, flop=3),
    "aten::_softmax_backward_data": partial(_softmax, flop=4),
    "aten::_log_softmax_backward_data": partial(_softmax, flop=4),
}
