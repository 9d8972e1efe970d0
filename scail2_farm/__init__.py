"""scail2-farm: character replacement as a farm job inside editorial.

The map of this house. One noun goes into each room, one noun comes out::

    edit.otio + edit.shots.yaml, submitted or dropped in inbox/
      editorial.timeline  -> Edit            what is cut, in exact frames
      documents           -> ShotManifest    who plays whom, and how
      plan, shots         -> Plan            shots and segments; every input probed, every fault at once
      seal                -> SealedShots     known by content; what was rendered before is found by its key
      farm.ledger         -> Segment leased  on a farm: durable, in chain order, to a child process
      render              -> frames          media.plates -> media.color -> engine -> media.color -> media.comp
      guards              -> Report          what was handed in, looked at
      deliver             -> Take            frames, movie, take.json; renamed into place
      editorial.takes     -> edit.scail2.otio    the same cut with the takes linked

Rooms::

    errors.py      the error tree, codes, exit codes                    floor 0
    words.py       numbers in words                                     floor 0
    frames.py      FrameRange, exact rates, timecode, frame patterns    floor 0
    documents.py   every JSON/YAML that crosses a disk or a process     floor 1
    digests.py     files by content, remembered                         floor 1
    settings.py    defaults < TOML < environment < flag                 floor 1
    evidence.py    what a segment leaves that was refused twice          floor 1
    versions.py    takes on disk, by version; windows.py  the model's windows over a shot    floor 1
    editorial/     edits in, edits out (opentimelineio stops here)
    media/         pictures in, pictures out (av, OpenEXR, OpenImageIO, PyOpenColorIO, Pillow): plates opens any of
                   exr (exrfile), rasters (dpx, tiff, png), movies (yuv, sound, containers); stills, mattes, reels;
                   spaces, color: plate <-> model colour; canvas, comp; broken: what is wrong with a file
    engine/        SCAIL-2: arrays in, arrays out (mlx, safetensors, tokenizers): pipeline; dit, vae, umt5, clip; lora;
                   weights, quantize, convert (pickles), pull, store; precision, memory, conditioning
    farm/          who does it, when (sqlite3, watchdog): daemon, hotfolder, ledger, dispatch; worker meets the corridor
    review/        what people look at: sheets
    plan.py shots.py seal.py  render.py guards.py  deliver.py    the corridor, the only place where wings meet
    search.py      offline media, found again by reel and timecode
    footage.py     media looked at before a cut uses it (`probe`)
    job.py         the corridor walked once, in this process
    cli.py operators.py snapshots.py    typer and rich; words to the user, errors into exit codes

Reading order, half an hour: README, this map, documents, plan, shots, render, engine/pipeline, farm/daemon.
"""

__version__ = "0.1.0"
