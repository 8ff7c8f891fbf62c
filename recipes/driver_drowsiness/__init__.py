"""The recipe of `driver-drowsiness`: eyes and mouths of drivers, from pictures to a bundle."""
