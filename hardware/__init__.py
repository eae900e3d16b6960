"""Arms, cameras, the safety envelope and the daemon that runs a policy on a robot. Without torch."""
