"""The benchmark: the array beside what one would pick instead, in one run, on one topology.

Run it by `python -m casarray.lab.bench`, see `__main__`.
"""
