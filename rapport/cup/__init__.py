"""The main job: a cup, a laptop, and somebody who is asked how the one should be carried past the other."""

from rapport.shadow import check_imports

check_imports()  # a script may be run from beside an `envs` of its own
