"""Untrusted bytes become arrays: sniffed, limited, decoded, cropped."""
