"""Key frames from and to other programs: Nuke's scripts, After Effects' keyframe data."""
