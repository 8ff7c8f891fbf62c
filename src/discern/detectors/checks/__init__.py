"""The executable contract: what every bundle must hold, run over the shipped ones and over anyone's own."""
