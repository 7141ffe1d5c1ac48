"""Line searches: how far to go along the updates."""
