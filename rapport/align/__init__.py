"""`rapport align`: a policy is fitted to stored answers directly, with no reward model between, and written out."""
