"""Writing films as H.264 in an .mp4.

FFmpeg is started here and not by imageio, which forks to do so: Linux refuses that to a process
that has mapped more memory than there is, as one with a few open environments has (Mesa maps 4 GB
for each of them, and hardly touches it). What `subprocess` does by itself needs no such copy.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from octo_bench.files import atomic_path


def write_film(
    frames: Sequence[np.ndarray], out: Path, frames_a_second: float, options: Sequence[str] = ()
) -> None:
    """Write frames (H, W, 3) uint8, H and W even, as a film.

    Args:
        frames: at least one.
        out: an .mp4, written atomically.
        frames_a_second: how fast it plays.
        options: more of FFmpeg's for the output, such as ("-crf", "30").

    Raises:
        BadFile: when the disk is full.
        subprocess.CalledProcessError: when FFmpeg cannot encode it; `stderr` says why.
    """
    height, width, _ = frames[0].shape
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}")
    film = ("-an", "-c:v", "libx264", "-pix_fmt", "yuv420p", *options, "-f", "mp4")
    program = (imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y")
    with atomic_path(out) as temporary:
        subprocess.run(
            [*program, *raw, "-r", f"{frames_a_second:g}", "-i", "-", *film, str(temporary)],
            input=b"".join(np.ascontiguousarray(frame).data for frame in frames),
            capture_output=True,
            check=True,
        )
