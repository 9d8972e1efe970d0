"""Says a step, then what no worker says, then that it is done."""

import sys

sys.stdin.readline()
sys.stdout.write('{"said": "step", "what": "sh010", "step": 1, "of": 2}\n')
sys.stdout.flush()
sys.stdout.buffer.write(b"\xff\xfe\x00Loading: 3%|##        |\r\n")
sys.stdout.write('{"said": "done"}\n')
sys.stdout.flush()
sys.stdin.readline()
