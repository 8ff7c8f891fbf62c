"""What a running installation can show for the controls of standards and laws."""
