"""Attacks of other libraries, each called as one function on a plain network with images in [0, 1].

One module a library. A function runs the library's own code; where the library draws at random, the function either
takes the draw as an argument and hands it in (see `draws.py`), or a seed. What a library does otherwise than the paper
is said in its function.
"""
