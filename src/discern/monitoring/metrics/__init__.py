"""What is measured, where it is added up, and how it is exported."""
