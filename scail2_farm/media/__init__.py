"""Pictures in, pictures out: plates, mattes, stills, colour, canvas, comp, movies.

The only wing that imports av, OpenEXR, OpenImageIO and PyOpenColorIO. Pictures are numpy arrays, (H, W, 3)
float32 unless a docstring says otherwise; row 0 is the top.
"""
