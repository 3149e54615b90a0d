"""What the figures of the README come from: ``make bench``, or one module of this package by name."""
