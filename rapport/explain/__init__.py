"""`rapport explain`: which model explains a person's answers."""
