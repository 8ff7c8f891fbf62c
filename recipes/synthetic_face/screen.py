"""The screen: a stage of a few milliseconds that decides clear cases.

Invariants:

- It measures chains of luma residuals at full and half size and one joint co-occurrence of luma and red - green.
- It is fitted exactly as the expert is, with fewer axes and landmarks and no transfer share.
"""

from recipes.synthetic_face.stack import StackSettings

NAME = "screen"
FAMILIES = ("fast",)
SETTINGS = StackSettings(axes=64, landmarks=300, transfer=0.0)
