"""The closed circle: what a robot did comes back as questions, and what people did to it as answers."""
