"""Reading films in tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

_META = "import sys, imageio.v3; m = imageio.v3.immeta(sys.argv[1]); print(m['fps'], m['codec'])"
_PROGRAM = "import sys, numpy, imageio.v3; numpy.save(sys.argv[2], imageio.v3.imread(sys.argv[1]))"


def frames_of(film: Path) -> np.ndarray:
    """The frames (N, H, W, 3) uint8 of an .mp4.

    In a process of its own: imageio forks, which Linux refuses to one with many environments.
    """
    frames = film.with_suffix(".npy")
    subprocess.run([sys.executable, "-c", _PROGRAM, str(film), str(frames)], check=True)
    return np.load(frames)


def rate_and_codec_of(film: Path) -> tuple[float, str]:
    """Frames a second and the codec's name of an .mp4, likewise."""
    done = subprocess.run(
        [sys.executable, "-c", _META, str(film)], capture_output=True, text=True, check=True
    )
    rate, codec = done.stdout.split()
    return float(rate), codec
