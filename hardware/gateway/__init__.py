"""The robot's gateway: what people, pages, policies and other programs speak to; it speaks to the daemon for them."""
