"""The front door: the command `rapport`, the table of systems, their reproductions, and the main job."""
