#!/usr/bin/env python3
"""The training set of the page's weights: training_set.py MNIST DIGITS OUT

MNIST holds train-images-idx3-ubyte and train-labels-idx1-ubyte, DIGITS train.csv and test.csv of scikit-learn's load_digits (a label and 64
pixels from 0 to 16 a row). OUT gets a train.csv of both, MNIST's digits in the form of the others, these ten times, and DIGITS' test.csv.
Needs numpy. scikit-learn's 1,437 digits alone make a model that reads its like, and few that are drawn with a mouse."""

import shutil
import sys
from pathlib import Path

import numpy as np

FINE = 32  # points along each side, 4 x 4 of which are a pixel
INK = 0.305  # the share of them that is dark, as in scikit-learn's digits
REPEATS = 10


def idx(path):
    """The bytes of an IDX file as an array of its shape."""
    raw = path.read_bytes()
    axes = raw[3]
    shape = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(axes)]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * axes).reshape(shape)


def small(picture):
    """Cuts the digit out, fills the height and up to three quarters of the width, and makes the darkest points ink."""
    rows, columns = np.where(picture > 80)
    top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    down, across = FINE / (bottom - top), 0.75 * FINE / (right - left)
    across = min(across, 1.12 * down)
    down = min(down, 1.12 * across)
    steps = np.arange(FINE) + 0.5 - FINE / 2
    margin = 40
    y = (top + bottom) / 2 + steps / down - 0.5 + margin
    x = (left + right) / 2 + steps / across - 0.5 + margin
    wide = np.pad(picture.astype(float), margin)
    y0, x0 = np.floor(y).astype(int), np.floor(x).astype(int)
    fy, fx = (y - y0)[:, None], (x - x0)[None]
    at = lambda dy, dx: wide[np.ix_(y0 + dy, x0 + dx)]
    fine = at(0, 0) * (1 - fy) * (1 - fx) + at(1, 0) * fy * (1 - fx) + at(0, 1) * (1 - fy) * fx + at(1, 1) * fy * fx
    dark = fine >= max(np.quantile(fine, 1 - INK), 25)
    return dark.reshape(8, 4, 8, 4).sum((1, 3)).ravel()


def main(mnist, digits, out):
    out.mkdir(parents=True, exist_ok=True)
    pictures, labels = idx(mnist / "train-images-idx3-ubyte"), idx(mnist / "train-labels-idx1-ubyte")
    with open(out / "train.csv", "w") as train:
        train.write((digits / "train.csv").read_text() * REPEATS)
        np.savetxt(train, [[label, *small(picture)] for picture, label in zip(pictures, labels)], fmt="%d", delimiter=",")
    shutil.copy(digits / "test.csv", out / "test.csv")


main(*map(Path, sys.argv[1:4]))
