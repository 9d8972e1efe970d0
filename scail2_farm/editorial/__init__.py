"""Edits in, edits out: OpenTimelineIO stops at this wall.

`timeline` reads a cut over the JSON that `otiojson` reads; `takes` links takes into it and writes it back; `rates`
turns written times into frames, `paths` written addresses into files; `cast` decides who plays whom in each clip. No
picture is opened here.
"""
