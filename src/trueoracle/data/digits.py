"""The 1,797 handwritten 8x8 digits that ship inside scikit-learn: real data with no download at all.

E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits (UCI, 1998), the test part.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from trueoracle.data.source import RawData, RawSplit
from trueoracle.words.progress import Progress

_SPLIT_SEED = 0
_TEST_SHARE = 0.2


def read_digits(_data_dir: Path | None, _progress: Progress) -> RawData:
    """All digits, grey levels 0-16 stretched to 0-255, scaled to 32x32 bilinearly; 1,437 train, 360 test.

    The split is stratified by class and always the same.
    """
    from sklearn.datasets import load_digits  # seconds to import, so only where it is wanted
    from sklearn.model_selection import train_test_split

    levels, labels = load_digits(return_X_y=True)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=_TEST_SHARE, stratify=labels, random_state=_SPLIT_SEED
    )
    pixels = np.round(levels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    images = np.stack([np.asarray(Image.fromarray(p).resize((32, 32), Image.Resampling.BILINEAR)) for p in pixels])

    def split(members: np.ndarray) -> RawSplit:
        return RawSplit(
            images_NCHW=torch.from_numpy(images[members])[:, None],
            labels_N=torch.from_numpy(labels[members].astype(np.int64)),
        )

    return RawData(train=split(np.sort(train)), test=split(np.sort(test)))
