"""Measurements of the product's bars, each against a program that people use for the same today.

    python -m bench [--quick] [--runs N] [NAME]...

Every figure is a ratio of two things measured in the same run, one after the other in turn: absolute times say more of
the machine than of the program. One module is one measurement; `run` prints one table of all.
"""
