"""Stand-ins for arms, each a process that speaks its maker's bytes. For tests and trials, never for a daemon."""
