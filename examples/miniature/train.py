# pyright: reportMissingImports=false
# (PyTorch is there for training alone)
"""Make the miniature: draw the clips, train the transformer, train the autoencoder, write the snapshot.

    python train.py set   --work DIR                 # draw and code the training clips
    python train.py dit   --work DIR --minutes 45    # may start as soon as the first clips are there
    python train.py vae   --work DIR --minutes 10
    python train.py snapshot --work DIR --to FOLDER  # in the environment of the package, not of PyTorch

Every stage goes on where it was stopped. README.md says what it took.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

FIRST_HELD_OUT = 50_000_000  # numbers of clips that no training sees


def reporter(work: Path):
    """A function for `train_dit` that renders held-out clips and says who landed where; a sheet is written beside."""
    import numpy as np
    import torch
    from cells import Cells
    from clips import KINDS, draw, sample
    from PIL import Image
    from train_dit import loss_of, prepare
    from train_dit import sample as generate

    cells = Cells.load(work / "cells.npz" if (work / "cells.npz").exists() else work / "set" / "cells.npz")
    sets = []
    for kind, frames, people, replace in ((0, 3, 2, True), (1, 5, 2, True), (1, 3, 3, True), (3, 3, 2, False)):
        clips, number = [], FIRST_HELD_OUT
        while len(clips) < 12:
            clip = draw(KINDS[kind], number, 0)
            number += 1
            if len(clip.slots) == people and clip.replace == replace:
                clips.append(clip)
        arrays = [sample(clip, cells) for clip in clips]
        stacked = {name: torch.from_numpy(np.stack([one[name] for one in arrays])) for name in arrays[0]}
        sets.append((clips, prepare(stacked, frames, np.random.default_rng(0))))

    def report(model, step: int) -> str:
        model.eval()
        with torch.no_grad():
            held = np.mean([loss_of(model, batch, np.random.default_rng(1), sigma=0.95).item() for _, batch in sets])
        words, rows = [f"held out {held:.4f}"], []
        for clips, batch in sets:
            codes = generate(model, batch, steps=6, shift=5.0, seed=0).permute(0, 2, 3, 4, 1).numpy()
            right, errors, people, noise = 0, [], 0, []
            for clip, code in zip(clips, codes, strict=True):
                made = np.clip(cells.decode(code) / 2 + 0.5, 0, 1)
                target, labels = clip.target[: len(made)], clip.labels[: len(made)]
                seen = [slot for slot in clip.slots if (labels == slot).sum() > 30]
                means = {slot: target[labels == slot].mean(axis=0) for slot in seen}
                for slot in means:
                    found = made[labels == slot].mean(axis=0)
                    off = {other: np.abs(found - mean).mean() for other, mean in means.items()}
                    people, errors = people + 1, [*errors, 255 * off[slot]]
                    right += min(off, key=off.__getitem__) == slot
                noise.append(((made - target)[labels == 0] ** 2).mean())
            psnr = -10 * np.log10(np.mean(noise))
            words.append(f"{right}/{people} right, {np.mean(errors):.1f} off, {psnr:.1f} dB")
            for clip, code in list(zip(clips, codes, strict=True))[:3]:
                made = np.clip(cells.decode(code) / 2 + 0.5, 0, 1)
                last = len(made) - 1
                row = [clip.reference, clip.driving[last], clip.target[last], made[0], made[last]]
                row = np.concatenate(row, axis=1)
                rows.append(np.pad(row, ((0, 96 - row.shape[0]), (0, 480 - row.shape[1]), (0, 0))))
        sheet = np.concatenate([np.concatenate(rows[:6]), np.concatenate(rows[6:])], axis=1)
        Image.fromarray((255 * sheet).astype(np.uint8)).save(work / "sheet.png")
        return "; ".join(words)

    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("set", "dit", "vae", "snapshot"))
    parser.add_argument("--work", type=Path, required=True, help="folder of clips, checkpoints and logs")
    parser.add_argument("--minutes", type=float, default=45.0, help="wall-clock budget of a training")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2, help="that draw clips")
    parser.add_argument("--start", type=Path, help="folder of a snapshot whose transformer is trained on")
    parser.add_argument("--to", type=Path, help="folder of the snapshot")
    options = parser.parse_args()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if options.stage == "set":
        from clips import write_all

        write_all(options.work / "set", seed=options.seed, processes=options.processes)
    elif options.stage == "dit":
        from train_dit import train_dit

        report = reporter(options.work)
        train_dit(options.work, minutes=options.minutes, seed=options.seed, start=options.start, report=report)
    elif options.stage == "vae":
        from train_vae import train_vae

        train_vae(options.work, minutes=options.minutes, seed=options.seed)
    else:
        from snapshot import write_snapshot

        write_snapshot(options.work, options.to, start=options.start)


if __name__ == "__main__":
    main()
