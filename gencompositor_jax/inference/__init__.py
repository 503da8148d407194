"""One sampling pass, its compiled programs, and the latents that it leaves on disk."""
