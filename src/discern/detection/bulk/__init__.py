"""Scoring of whole files: tables of records and folders of media, to a file of verdicts."""
