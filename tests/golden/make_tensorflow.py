"""What real TensorFlow computes for the images and features of inputs.py; the tests compare with it.

Run once, by hand: `python make_tensorflow.py`, in an environment with TensorFlow 2.x. It writes, beside itself,

resize_tf1.npz             for every size s of SIZES, image(s) resized to 299x299 by TF1's bilinear resize (no aligned
                           corners, no half-pixel centres): `sha256_s`, of the little-endian float32 bytes of
                           (299, 299, 3), and `pixels_s`, every 7th pixel each way, float32 (43, 43, 3)
precision_recall_tf.json   for every case of CASES, precision and recall as ADM's evaluator defines them (k = 3),
                           from squared distances in float16, as there, and in float32
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import tensorflow as tf
from inputs import CASES, SIZES, STRIDE, features, image

HERE = Path(__file__).parent
NEIGHBOURS, ROWS = 3, 500


def resized(size: int) -> np.ndarray:
    """image(size) at 299x299, float32 (299, 299, 3) in [0, 255]."""
    pixels = tf.constant(image(size)[None], tf.float32)
    output = tf.compat.v1.image.resize_bilinear(pixels, (299, 299), align_corners=False, half_pixel_centers=False)
    return output.numpy()[0]


def distances(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """Squared distances in the type of both (n, d) and (m, d), then as float32 (n, m)."""
    norms = [tf.reduce_sum(tf.square(side), axis=1) for side in (left, right)]
    product = tf.matmul(left, right, transpose_b=True)
    return tf.cast(tf.maximum(norms[0][:, None] - 2 * product + norms[1][None], 0), tf.float32)


def radii(points: tf.Tensor) -> tf.Tensor:
    """Squared distance of each of (n, d) to its 3rd nearest neighbour, float32 (n,)."""
    parts = [distances(points[i : i + ROWS], points) for i in range(0, len(points), ROWS)]
    return tf.concat([tf.sort(part, axis=1)[:, NEIGHBOURS] for part in parts], axis=0)


def covered(points: tf.Tensor, manifold: tf.Tensor) -> float:
    """The share of points (n, d) that lie within the radius of some point of the manifold (m, d)."""
    reach = radii(manifold)
    parts = [distances(points[i : i + ROWS], manifold) for i in range(0, len(points), ROWS)]
    inside = tf.concat([tf.reduce_any(part <= reach[None], axis=1) for part in parts], axis=0)
    return int(tf.math.count_nonzero(inside)) / len(points)


def precision_and_recall(case: str, dtype: tf.DType) -> dict[str, float]:
    """Of one case, with distances in `dtype`."""
    reference, samples = (tf.cast(side, dtype) for side in features(case))
    return {"precision": covered(samples, reference), "recall": covered(reference, samples)}


def main() -> None:
    """Write both files."""
    outputs = {size: np.ascontiguousarray(resized(size), "<f4") for size in SIZES}
    digests = {f"sha256_{size}": np.str_(hashlib.sha256(output).hexdigest()) for size, output in outputs.items()}
    pixels = {f"pixels_{size}": output[::STRIDE, ::STRIDE] for size, output in outputs.items()}
    np.savez_compressed(HERE / "resize_tf1.npz", **digests, **pixels)

    types = {"float16": tf.float16, "float32": tf.float32}
    values = {case: {name: precision_and_recall(case, dtype) for name, dtype in types.items()} for case in CASES}
    text = json.dumps({"tensorflow": tf.__version__, "values": values}, indent=1)
    (HERE / "precision_recall_tf.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
