"""Edits in, edits out: OpenTimelineIO stops at this wall.

`formats` opens any cut as OTIO JSON (`bundles`, `edl`, `xmlcuts`, `nle`), which `otiojson` types; `timeline` walks it
and finds what is shown of each clip: `nesting` reckons with the compounds and transitions around it, `retimes` with
its speed, `sources` with its media. A `clips.Clip` then says which plate frames it needs. `rates` turns written times
into frames, `paths` written addresses into files. `cast` decides who plays whom in each clip, and `takes` links takes
into the cut and writes it back. No picture is opened here.
"""
