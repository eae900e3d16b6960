"""The preference-query GUI: people look at clips in a browser and say which is better; the store has their answers."""
