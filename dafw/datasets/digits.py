"""Real handwritten digits, 8x8."""

from __future__ import annotations

import numpy as np
import torch

from dafw.datasets._arrays import image_table
from dafw.domain import Domain
from dafw.place import Place
from dafw.registry import register_dataset

TEST_FRACTION = 0.4


@register_dataset
def digits(place: Place) -> Domain:
    """scikit-learn's 1,797 handwritten digits (Alpaydin and Kaynak 1998, UCI), 60 % train and 40 % test."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)  # values 0 to 16, how many of 4x4 dots are inked
    grey = np.round(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    table = image_table(grey, labels)
    train, test = place.split(torch.from_numpy(labels), TEST_FRACTION)
    return Domain("digits", tuple("0123456789"), table.rows(train), table.rows(test))
