"""Where RAPL wins and where it does not: rewards of videos side by side, in the worlds that are judged by pictures."""
