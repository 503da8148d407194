"""Offsets of the foreground from its place in the target, in whole tokens, for the ERoPE layout `trajectory`.

The foreground video shows the element near the frame's centre. In each latent frame it is drawn exactly
`offsets` tokens away from where it is in the target: what a whole token leaves of the distance, and the
motion within the latent frame's pixel frames, stay in the picture.
"""

import numpy as np

# (frames, pixels along height and along width) of one token: `ModelArch.cell`.
Cell = tuple[int, int]


def whole_tokens(distance: np.ndarray, cell: Cell) -> tuple[np.ndarray, np.ndarray]:
    """Splits the way from the frame's centre to an element's place into whole tokens and the rest.

    Args:
        distance: [T, 2], (x, y) in pixels of the model's frame; T = frames of a token * k + 1.
        cell: of a token.

    Returns:
        offsets, int32 [t, 2]: (rows, columns), the mean distance of each latent frame, rounded; and the rest,
        float64 [T, 2]: (x, y) in pixels from the centre, where the foreground shows the element.
    """
    frames, pixels = cell
    latent_frame = -(-np.arange(len(distance)) // frames)  # the first frame has one to itself
    count = np.bincount(latent_frame)[:, None]
    mean = (
        np.stack([np.bincount(latent_frame, axis) for axis in np.asarray(distance, np.float64).T], 1) / count
    )
    offsets = np.rint(mean / pixels).astype(np.int32)
    return offsets[:, ::-1], distance - pixels * offsets[latent_frame]


def no_offsets(latent_frames: int) -> np.ndarray:
    """int32 [t, 2]: of a white foreground, and of one that is where it will be."""
    return np.zeros((latent_frames, 2), np.int32)
