"""Writing films as H.264 in an .mp4.

FFmpeg is started here and not by imageio, which forks to do so: Linux refuses that to a process
that has mapped more memory than there is, as one with a few open environments has (Mesa maps 4 GB
for each of them, and hardly touches it). What `subprocess` does by itself needs no such copy.
"""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from octo_bench.errors import BadFile
from octo_bench.files import atomic_path


def write_film(
    frames: Sequence[np.ndarray], out: Path, frames_a_second: float, options: Sequence[str] = ()
) -> None:
    """Write a film to an .mp4, atomically; see `encode_film`.

    Raises:
        BadFile: when the disk is full.
    """
    with atomic_path(out) as temporary:
        temporary.write_bytes(encode_film(frames, frames_a_second, options))


def encode_film(
    frames: Sequence[np.ndarray], frames_a_second: float, options: Sequence[str] = ()
) -> bytes:
    """Frames (H, W, 3) uint8, H and W even, at least one, as the bytes of an .mp4.

    Args:
        frames: at least one.
        frames_a_second: how fast it plays.
        options: more of FFmpeg's for the output, such as ("-crf", "30").

    Raises:
        BadFile: when there is no room for temporary files.
        subprocess.CalledProcessError: when FFmpeg cannot encode it; `stderr` says why.
    """
    height, width, _ = frames[0].shape
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}")
    film = ("-an", "-c:v", "libx264", "-pix_fmt", "yuv420p", *options, "-f", "mp4")
    program = (imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y")
    content = b"".join(np.ascontiguousarray(frame).data for frame in frames)
    try:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, "film.mp4")  # the format is written back and forth, not to a pipe
            subprocess.run(
                [*program, *raw, "-r", f"{frames_a_second:g}", "-i", "-", *film, str(out)],
                input=content,
                capture_output=True,
                check=True,
            )
            return out.read_bytes()
    except subprocess.CalledProcessError as error:
        if os.strerror(errno.ENOSPC).encode() not in error.stderr:
            raise
        raise _no_room() from error
    except OSError as error:  # also where no folder is fit for temporary files
        raise _no_room() from error


def _no_room() -> BadFile:
    folder = os.environ.get("TMPDIR", "the folder for temporary files")
    return BadFile(folder, "no space left to encode a film", "free some, or set another TMPDIR")
