"""Seeded inputs of the golden tests (numpy only; legacy RandomState streams)."""

import numpy as np


def make_image(seed, batch, height, width, kind="normal"):
    """Multi-scale noise image [batch,3,height,width] float32.

    Sum of standard normal fields drawn at 1/1, 1/4, 1/16, 1/64 resolution (in that
    order, from one RandomState(seed)), nearest-enlarged and cropped, halved -> std 1.
    kind 'normal': as is (RTMDet: already mean/std normalised input).
    kind 'unit'  : clip(0.5 + 0.25*x, 0, 1)   (RT-DETR: pixels in [0,1]).
    """
    r = np.random.RandomState(seed)
    x = np.zeros((batch, 3, height, width))
    for s in (1, 4, 16, 64):
        h, w = -(-height // s), -(-width // s)
        n = r.standard_normal((batch, 3, h, w))
        x += n.repeat(s, 2).repeat(s, 3)[:, :, :height, :width]
    x = x / 2
    if kind == "unit":
        x = np.clip(0.5 + 0.25 * x, 0, 1)
    elif kind != "normal":
        raise ValueError(kind)
    return x.astype(np.float32)


# --------------------------------------------------------------------------- helpers
def crc_seed(name):
    import zlib

    return zlib.crc32(name.encode())


def subsample_indices(name, n, k):
    """k distinct sorted indices below n (all of them when k >= n)."""
    if k >= n:
        return np.arange(n)
    return np.sort(np.random.RandomState(crc_seed(name)).permutation(n)[:k])


def points(height, width, strides=(8, 16, 32), offset=0.0):
    """[N,4] float32 rows (x, y, stride, stride); levels in order, row-major (x fastest)."""
    out = []
    for s in strides:
        h, w = -(-height // s), -(-width // s)
        y, x = np.meshgrid((np.arange(h) + offset) * s, (np.arange(w) + offset) * s, indexing="ij")
        out.append(np.stack([x.ravel(), y.ravel(), np.full(h * w, s), np.full(h * w, s)], 1))
    return np.concatenate(out).astype(np.float32)


def level_sizes(height, width, strides=(8, 16, 32)):
    return [(-(-height // s)) * (-(-width // s)) for s in strides]


def anchors_from_points(pts, scale=8.0):
    """square anchors of side scale*stride centred on the points, xyxy float32."""
    half = pts[:, 2:3].astype(np.float64) * scale / 2
    xy = pts[:, :2].astype(np.float64)
    return np.concatenate([xy - half, xy + half], 1).astype(np.float32)


def align_rows(ref, ours):
    """Permutation p with ours[p] ~ ref for two [Q,F] arrays holding the same rows in
    another order (RT-DETR queries whose top-k scores differ by float noise may swap).
    Greedy nearest row in max-norm; raises when it is not a permutation."""
    ref, ours = np.asarray(ref, np.float64), np.asarray(ours, np.float64)
    p = np.array([np.abs(ours - row).max(1).argmin() for row in ref])
    if len(set(p.tolist())) != len(p):
        raise AssertionError("rows do not correspond one to one")
    return p


# --------------------------------------------------------------------------- assigners
ASSIGNER_CASES = {
    # name: (seed, layout)
    "empty": (11, "none"),
    "single": (12, "one"),
    "crowd30": (13, "crowd"),
    "spread60": (14, "spread"),
    "tiny12": (15, "tiny"),
    "one_outside": (16, "outside"),
    "all_outside": (17, "all_outside"),
    "border": (18, "border"),
}
IMG = 640
NUM_CLASSES = 80


def _boxes(r, n, lo, hi, region=(0.0, 1.0), clip=True):
    c = (region[0] + (region[1] - region[0]) * r.uniform(size=(n, 2))) * IMG
    s = 2.0 ** r.uniform(np.log2(lo), np.log2(hi), size=(n, 2))
    b = np.concatenate([c - s / 2, c + s / 2], 1)
    return np.clip(b, 0, IMG) if clip else b


def assigner_case(name):
    """dict of numpy arrays for one 640x640 image with 8400 priors (strides 8/16/32):

    points0  [8400,4] (x,y,s,s), offset 0    (RTMDet priors)
    points5  [8400,4] (x,y,s,s), offset 0.5  (YOLOX / SimOTA priors)
    anchors  [8400,4] xyxy, side 8*stride centred on points0  (ATSS, TAL, MaxIoU priors)
    logits   [8400,80], bboxes [8400,4] xyxy predictions (not clipped)
    gt_bboxes [G,4] xyxy, gt_labels [G] int64

    Drawn from one RandomState(seed), in this order: ground truths, labels, random
    prediction distances, jitter choice, jitter, logits, class boost.
    """
    seed, layout = ASSIGNER_CASES[name]
    r = np.random.RandomState(seed)
    if layout == "none":
        gt = np.zeros((0, 4))
    elif layout == "one":
        gt = np.array([[150.3, 210.7, 371.9, 402.1]])
    elif layout == "crowd":
        gt = _boxes(r, 30, 40, 260, (0.30, 0.70))
    elif layout == "spread":
        gt = _boxes(r, 60, 12, 320, (0.05, 0.95))
    elif layout == "tiny":
        gt = _boxes(r, 12, 3, 11, (0.05, 0.95))
    elif layout == "outside":
        gt = np.concatenate([_boxes(r, 4, 60, 240, (0.2, 0.8)), [[655.2, 301.4, 702.6, 377.8]]])
    elif layout == "all_outside":
        gt = np.array([[655.2, 301.4, 702.6, 377.8], [-90.5, -80.1, -20.3, -11.7]])
    elif layout == "border":
        gt = np.concatenate(
            [_boxes(r, 8, 40, 300, (-0.05, 1.05)), _boxes(r, 4, 40, 300, (0.0, 0.1))]
        )
    gt = gt.astype(np.float32)
    g = len(gt)
    labels = r.randint(0, NUM_CLASSES, size=g).astype(np.int64)
    pts = points(IMG, IMG)
    n = len(pts)
    dist = r.uniform(0.5, 6.0, size=(n, 4)) * pts[:, 2:3]
    xy = pts[:, :2].astype(np.float64)
    pred = np.concatenate([xy - dist[:, :2], xy + dist[:, 2:]], 1)
    u = r.uniform(size=n)
    jit = r.standard_normal((n, 4))
    logits = -3.0 + 1.2 * r.standard_normal((n, NUM_CLASSES))
    boost = r.uniform(0, 4, size=n)
    if g:
        inside = ((xy[:, None] > gt[None, :, :2]) & (xy[:, None] < gt[None, :, 2:])).all(-1)
        # of the ground truths around a prior, take the one with the nearest centre
        ctr = (gt[:, :2] + gt[:, 2:]) / 2
        d = np.where(inside, np.linalg.norm(xy[:, None] - ctr[None], axis=-1), np.inf)
        own, has = d.argmin(1), inside.any(1) & (u < 0.7)
        wh = (gt[:, 2:] - gt[:, :2]).astype(np.float64)
        jb = gt[own] + 0.12 * jit * np.concatenate([wh, wh], 1)[own]
        jb = np.concatenate([np.minimum(jb[:, :2], jb[:, 2:]), np.maximum(jb[:, :2], jb[:, 2:])], 1)
        pred[has] = jb[has]
        logits[np.nonzero(has)[0], labels[own[has]]] += boost[has]
    return dict(
        points0=pts,
        points5=points(IMG, IMG, offset=0.5),
        anchors=anchors_from_points(pts),
        logits=logits.astype(np.float32),
        bboxes=pred.astype(np.float32),
        gt_bboxes=gt,
        gt_labels=labels,
    )


# --------------------------------------------------------------------------- losses
def qfl_case(seed=21, n=256, classes=80):
    """pred logits [n,classes], label [n] (classes = background), score [n], weight [n]."""
    r = np.random.RandomState(seed)
    pred = (-2 + 2 * r.standard_normal((n, classes))).astype(np.float32)
    label = np.where(r.uniform(size=n) < 0.4, r.randint(0, classes, size=n), classes).astype(
        np.int64
    )
    score = np.where(label < classes, r.uniform(size=n), 0.0).astype(np.float32)
    weight = (r.uniform(size=n) < 0.9).astype(np.float32)
    return dict(pred=pred, label=label, score=score, weight=weight)


def giou_case(seed=22, n=128):
    """pred, target xyxy [n,4]; about half overlap; row 0 equal, row 1 disjoint, row 2 nested;
    weight [n]."""
    r = np.random.RandomState(seed)
    c, s = r.uniform(0, 600, size=(n, 2)), r.uniform(5, 150, size=(n, 2))
    t = np.concatenate([c - s / 2, c + s / 2], 1)
    c2, s2 = c + r.standard_normal((n, 2)) * s * 0.6, s * 2 ** (0.5 * r.standard_normal((n, 2)))
    p = np.concatenate([c2 - s2 / 2, c2 + s2 / 2], 1)
    t[0], p[0] = [10, 20, 110, 90], [10, 20, 110, 90]
    t[1], p[1] = [10, 20, 60, 70], [300, 310, 380, 350]
    t[2], p[2] = [100, 100, 300, 300], [150, 160, 200, 220]
    return dict(
        pred=p.astype(np.float32),
        target=t.astype(np.float32),
        weight=r.uniform(size=n).astype(np.float32),
    )


def train_targets(name, size=320):
    """list (one per image) of dict(boxes xyxy pixels [G,4] float32, labels [G] int64).
    'two': 5 and 3 objects; 'with_empty': 4 and 0; 'many': 120 and 3 (more than 100 dn queries)."""
    seed, counts = {"two": (31, (5, 3)), "with_empty": (32, (4, 0)), "many": (33, (120, 3))}[name]
    r = np.random.RandomState(seed)
    out = []
    for g in counts:
        c = r.uniform(0.15, 0.85, size=(g, 2)) * size
        s = 2.0 ** r.uniform(np.log2(size * 0.06), np.log2(size * 0.6), size=(g, 2))
        b = np.clip(np.concatenate([c - s / 2, c + s / 2], 1), 0, size)
        out.append(
            dict(
                boxes=b.astype(np.float32).reshape(-1, 4),
                labels=r.randint(0, NUM_CLASSES, size=g).astype(np.int64),
            )
        )
    return out


def normalised_targets(name, size=320):
    """same targets as cxcywh / size (float64 arithmetic, then float32)."""
    out = []
    for t in train_targets(name, size):
        b = t["boxes"].astype(np.float64) / size
        c = np.concatenate([(b[:, :2] + b[:, 2:]) / 2, b[:, 2:] - b[:, :2]], 1)
        out.append(dict(boxes=c.astype(np.float32), labels=t["labels"]))
    return out


def detr_outputs(seed, batch=2, queries=300, classes=80):
    """logits [batch,queries,classes] and boxes cxcywh in (0,1) [batch,queries,4], float32."""
    r = np.random.RandomState(seed)
    logits = (-3 + 1.5 * r.standard_normal((batch, queries, classes))).astype(np.float32)
    c = r.uniform(0.05, 0.95, size=(batch, queries, 2))
    s = 2.0 ** r.uniform(np.log2(0.04), np.log2(0.6), size=(batch, queries, 2))
    return logits, np.concatenate([c, s], -1).astype(np.float32)


MATCHER_CASES = {"two": 41, "with_empty": 42, "many": 43}


def align_detections(ref, ours, size=640.0):
    """ref, ours: (boxes [K,4], scores [K], labels [K]).  Permutation p with ours[p] ~ ref; final
    detections are ordered by score, so neighbours a few 1e-6 apart may swap."""

    def rows(t):
        boxes = np.asarray(t[0], np.float64) / size
        columns = (np.asarray(t[1], np.float64)[:, None], np.asarray(t[2], np.float64)[:, None])
        return np.concatenate([boxes, *columns], 1)

    return align_rows(rows(ref), rows(ours))
