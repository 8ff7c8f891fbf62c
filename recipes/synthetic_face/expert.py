"""The expert: the whole rich model, for what the screen leaves open.

Invariants:

- It measures every family but `fast` on the whole crop.
- It does not take the screen's score, so it can be measured and served alone.
"""

from recipes.synthetic_face.stack import StackSettings

NAME = "expert"
FAMILIES = ("luma", "chroma", "half", "cross", "spectrum", "texture")
SETTINGS = StackSettings()
