"""Stand-ins for arms, each a process of its own that speaks its maker's bytes. For tests and trials, never for a daemon."""
