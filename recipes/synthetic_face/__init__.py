"""How the shipped `synthetic-face` detector is trained and measured."""
