"""How public and private datasets lie on disk: a file a layout, which finds items or tables and reads no pixel."""
