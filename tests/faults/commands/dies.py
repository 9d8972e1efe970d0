"""Takes its task, makes a step, and dies of a bad address."""

import ctypes
import sys

sys.stdin.readline()
sys.stdout.write('{"said": "step", "what": "sh010", "step": 1, "of": 2}\n')
sys.stdout.flush()
ctypes.string_at(0)
