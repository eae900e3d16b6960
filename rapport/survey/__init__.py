"""The parts of `rapport reproduce survey`: what people can say, and what is worth asking them."""
