"""How the shipped `card-fraud` detector is trained and measured."""
