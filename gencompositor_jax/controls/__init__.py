"""What the user says -> what the network takes: clips, elements, trajectories, masks, views."""
