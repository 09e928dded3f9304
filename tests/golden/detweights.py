"""Deterministic weights for numerical golden tests (numpy only).

``deterministic_state_dict(state_dict)`` fills every tensor of a state_dict as a
pure function of *its key, its shape and its role*; no pretrained weights, no
torch RNG, no dependence on dict order, dtype, device or on the other entries.

Usage in a test
---------------
    from detweights import deterministic_state_dict, state_dict_from_spec
    sd  = deterministic_state_dict(reference_model.state_dict())   # torch in, torch out
    sd  = state_dict_from_spec(json.load(open("spec_....json"))["state_dict"])  # numpy out
The second form needs no reference installed: the spec JSON holds the (key,
shape, dtype) list of the reference model.  A re-implementation feeds the result
through its own "reference checkpoint -> ours" key converter and must then
reproduce the stored outputs.  KEYS ARE THE REFERENCE'S KEYS: fill first,
convert afterwards.

The rule
--------
Every tensor gets ``r = RandomState(crc32(canonical_key(key)))`` (numpy's legacy
generator, whose streams are frozen) and ``n = r.standard_normal(shape)`` in
float64, C order.  Then, by role (``role_of``):

  keep        integer tensors (``num_batches_tracked``), and names in KEEP_NAMES
              (anchors, valid_mask, pos_embed*, data_preprocessor.*): returned as given
              (from a spec: integers become 0, other kept names are left out).
  running_mean  0.1 * n
  running_var   exp(0.1 * n)                     (positive, near 1)
  norm weight   f * (1 + 0.1 * n)                any 1-D ``*weight``; f from NORM_GAIN
  bias          c + s * n                        any 1-D non-weight; (c, s) from BIAS
  embedding     n ; the padding row (last row of ``denoising_class_embed``) is 0
  weight        g / sqrt(fan_in) * n             any >=2-D; fan_in = prod(shape[1:]); g from GAIN
                (4-D: see the two details below)
  scalar        1 + 0.1 * n (name ends in 'scale'/'weight'), 0.05 * n (other) for
                0-D or shape (1,) tensors, e.g. the learnable affine block of HGNetV2

The result is cast to float32 last.  GAIN / NORM_GAIN / BIAS are ordered regex
tables searched with ``re.search``; the first hit wins.  They cover three key
families: mmdet RTMDet, lyuwenyu RT-DETR, Hugging Face RTDetr* (and HGNetV2).

Two details keep activations O(1) through 100+ layers without data statistics:
  * a 4-D weight with shape[1] > 1 (an ordinary convolution) has the mean of ``n``
    over its fan-in subtracted per output filter before scaling, so the positive
    mean that SiLU/ReLU leave behind is not carried on; a depthwise kernel
    (shape[1] == 1) instead gets +0.8 at its centre tap;
  * the bias of a BatchNorm in front of an activation is centred at +1.2, where
    SiLU and ReLU are nearly linear: with gain 1.11 a unit variance is then a
    stable fixed point, and float32 rounding is amplified by about 2-4 % a layer
    only.

canonical_key: RTMDet's head shares the conv (not the BN) of each stacked layer
over the three levels, and its state_dict lists that one tensor three times
(``bbox_head.cls_convs.{0,1,2}.i.conv.weight``).  All three canonicalise to level 0,
so they get the same values whatever the load order and whether or not the
re-implementation stores one copy or three.

``salt`` (default 0) is added to the seed; the stored goldens use salt 0.
"""

import re
import zlib

import numpy as np

__all__ = [
    "deterministic_state_dict",
    "state_dict_from_spec",
    "deterministic_array",
    "canonical_key",
    "role_of",
]

KEEP_NAMES = re.compile(
    r"(^|\.)(anchors|valid_mask|pos_embed\d*|empty_weight)$|^data_preprocessor\."
)

# gain of >=2-D weights, by key
GAIN = [
    (re.compile(p), g)
    for p, g in [
        # ---- RTMDet (mmdet) ----
        (r"bbox_head\.rtm_cls\.", 1.5),
        (r"bbox_head\.rtm_reg\.", 0.5),
        (r"attention\.fc\.weight$", 1.0),
        (r"backbone\.stage\d\.\d\.final_conv\.conv\.weight$", 1.6),
        # ---- RT-DETR, original and HF keys ----
        (r"enc_score_head|dec_score_head|class_embed\.\d", 1.5),
        (r"(enc_bbox_head|dec_bbox_head\.\d|bbox_embed\.\d)\.layers\.2\.", 0.3),
        (r"(enc_bbox_head|dec_bbox_head\.\d|bbox_embed\.\d)\.layers\.[01]\.", 1.4),
        (r"query_pos_head", 1.4),
        (r"sampling_offsets\.", 1.0),
        (r"attention_weights\.", 0.7),
        (r"(self_attn|cross_attn|encoder_attn)\.", 1.0),
        (r"(linear[12]|fc[12])\.weight$", 1.4),
        (r"enc_output\.0", 1.0),
        (r"bottlenecks\.\d\.conv[12]\.", 0.78),  # RepVGG: two branches are added
        (r"input_proj\.\d\.(0|conv)\.", 0.8),
    ]
]
GAIN_DEFAULT = 1.11  # convolution + BN + SiLU/ReLU
# factor on norm weights, by key: last norm of a residual branch
NORM_GAIN = [
    (re.compile(p), f)
    for p, f in [
        (r"backbone\.stage[123]\.\d\.blocks\.\d+\.conv2\.pointwise_conv\.bn\.weight$", 0.7),
        (r"branch2b\.norm\.weight$|backbone.*\.layer\.1\.normalization\.weight$", 0.5),
    ]
]
# (centre, spread) of 1-D non-weights, by key
BIAS = [
    (re.compile(p), cs)
    for p, cs in [
        (r"bbox_head\.rtm_cls\.\d\.bias$", (-4.0, 0.3)),
        (r"bbox_head\.rtm_reg\.\d\.bias$", (1.0, 0.2)),
        (r"attention\.fc\.bias$", (1.0, 0.3)),
        (r"(enc_score_head|dec_score_head\.\d|class_embed\.\d)\.bias$", (-2.0, 0.3)),
        (r"sampling_offsets\.bias$", (0.0, 1.5)),
        (r"bottlenecks\.\d\.conv[12]\.(norm|bn)\.bias$", (0.6, 0.1)),
        (r"backbone\.stage[123]\.\d\.blocks\.\d+\.conv2\.pointwise_conv\.bn\.bias$", (0.0, 0.1)),
        (r"branch2[bc]\.norm\.bias$|\.layer\.[12]\.normalization\.bias$", (0.0, 0.1)),
        (r"input_proj\.\d\.(1|norm)\.bias$", (0.0, 0.1)),
        (r"\.(bn|norm|normalization)\.bias$", (1.2, 0.1)),  # BatchNorm before an activation
    ]
]
BIAS_DEFAULT = (0.0, 0.1)  # LayerNorm, linear, convolution biases


def canonical_key(key):
    return re.sub(r"((?:cls|reg)_convs)\.\d+\.(\d+)\.conv\.", r"\1.0.\2.conv.", key)


def role_of(key, shape, is_integer=False):
    if is_integer or key.endswith("num_batches_tracked") or KEEP_NAMES.search(key):
        return "keep"
    if key.endswith("running_mean"):
        return "running_mean"
    if key.endswith("running_var"):
        return "running_var"
    if len(shape) == 0 or tuple(shape) == (1,):
        return "scalar"
    if len(shape) == 1:
        return "norm_weight" if key.endswith("weight") else "bias"
    if re.search(r"(denoising_class_embed|tgt_embed|weight_embedding)\.weight$", key):
        return "embedding"
    return "weight"


def _look(table, key, default):
    for pat, val in table:
        if pat.search(key):
            return val
    return default


def deterministic_array(key, shape, salt=0):  # noqa: C901
    """float32 array for one non-kept entry."""
    shape = tuple(int(s) for s in shape)
    role = role_of(key, shape)
    seed = (zlib.crc32(canonical_key(key).encode()) + salt) % (2**32)
    n = np.random.RandomState(seed).standard_normal(shape)
    if role == "running_mean":
        a = 0.1 * n
    elif role == "running_var":
        a = np.exp(0.1 * n)
    elif role == "scalar":
        a = 1 + 0.1 * n if key.endswith(("scale", "weight")) else 0.05 * n
    elif role == "norm_weight":
        a = _look(NORM_GAIN, key, 1.0) * (1 + 0.1 * n)
    elif role == "bias":
        c, s = _look(BIAS, key, BIAS_DEFAULT)
        a = c + s * n
    elif role == "embedding":
        a = np.array(n)
        if "denoising_class_embed" in key:
            a[-1] = 0
    elif role == "weight":
        if len(shape) == 4 and shape[1] > 1:
            n = n - n.mean((1, 2, 3), keepdims=True)
        a = n * (_look(GAIN, key, GAIN_DEFAULT) / np.sqrt(np.prod(shape[1:])))
        if len(shape) == 4 and shape[1] == 1:
            a[:, 0, shape[2] // 2, shape[3] // 2] += 0.8
    else:
        raise ValueError(f"{key}: role {role} has no generated value")
    return np.asarray(a, dtype=np.float32)


def _is_integer(v):
    return str(v.dtype).split(".")[-1].startswith(("int", "uint", "bool"))


def deterministic_state_dict(state_dict, salt=0):
    """New dict: same keys, shapes and container type (torch tensor or numpy array)."""
    out = {}
    for k, v in state_dict.items():
        if role_of(k, tuple(v.shape), _is_integer(v)) == "keep":
            out[k] = v
            continue
        a = deterministic_array(k, tuple(v.shape), salt)
        out[k] = v.new_tensor(a) if hasattr(v, "new_tensor") else a.astype(v.dtype)
    return out


def state_dict_from_spec(spec, salt=0):
    """spec: list of [key, shape] or [key, shape, dtype]; returns dict of numpy arrays."""
    out = {}
    for item in spec:
        k, shape = item[0], tuple(item[1])
        integer = len(item) > 2 and item[2].startswith(("int", "uint", "bool"))
        if role_of(k, shape, integer) == "keep":
            if integer or k.endswith("num_batches_tracked"):
                out[k] = np.zeros(shape, np.int64)
            continue
        out[k] = deterministic_array(k, shape, salt)
    return out
