"""The network: positions, attention, the two transformers and the denoiser that joins them.

Letters in the shapes of this package's signatures:

    B  clips of a batch                     T H W  frames, rows and columns of a video in pixels
    L  text tokens                          t h w  frames, rows and columns of its latents
    N  video tokens, t h w / patch^2        C      latent channels
    F  foreground tokens                    D      width of a token
    S  tokens of the joint sequence         d      size of an attention head
"""
